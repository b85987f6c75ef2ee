// SPDX-License-Identifier: MIT
#include "stream.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096
#define COUNTER_SET_BYTES 8
#define TIMESTAMPED_SET_BYTES 16
#define TIMESTAMP_OFFSET 8

static uint64_t set_bytes(const struct stream *stream)
{
	return stream->options.rate ? TIMESTAMPED_SET_BYTES : COUNTER_SET_BYTES;
}

static uint64_t load_u64(const unsigned char *data)
{
	uint64_t value;

	memcpy(&value, data, sizeof(value));
	return le64toh(value);
}

void stream_begin(struct stream *stream, const struct stream_options *options)
{
	errno = 0;
	if (options->block_size == 0 || options->block_size % PAGE_BYTES)
		die("--block-size must be a multiple of %d", PAGE_BYTES);
	if (options->blocks == 0 || options->blocks > STREAM_MAX_BLOCKS)
		die("--blocks must be 1 to %d", STREAM_MAX_BLOCKS);
	if (options->total == 0 || options->total % options->block_size)
		die("--total must be a multiple of --block-size");
	*stream = (struct stream){ .options = *options, .may_lose = options->rate != 0 };
	stream->latencies = calloc(options->total / options->block_size, sizeof(double));
	if (!stream->latencies)
		die("no memory for the latencies");
	stream->cpu = cpu_seconds(0);
	stream->server_cpu = options->server ? cpu_seconds(options->server) : 0;
}

static void count(struct stream *stream, uint64_t length)
{
	stream->last_at = seconds_now();
	if (stream->bytes == 0) {
		stream->first_at = stream->last_at;
		stream->first_bytes = length;
	}
	stream->bytes += length;
}

static void note_difference(struct stream *stream, uint64_t offset, uint64_t expected, uint64_t found)
{
	int32_t missing = (int32_t)(uint32_t)(found - expected);

	/* Samples are lost between blocks. */
	if (stream->may_lose && (stream->bytes + offset) % stream->options.block_size == 0) {
		stream->unreported_sets += missing;
		stream->misplaced_sets += missing < 0 ? (uint64_t)-(int64_t)missing : 0;
		return;
	}
	if (stream->mismatches++ == 0)
		fprintf(stderr, "%s: at byte %" PRIu64 ": expected sample set %" PRIu64 ", found %" PRIu64 "\n",
			program_invocation_short_name, stream->bytes + offset, expected, found);
}

static void verify(struct stream *stream, const unsigned char *data, uint64_t length)
{
	uint64_t mask = stream->options.rate ? UINT32_MAX : UINT64_MAX;

	for (uint64_t offset = 0; offset < length; offset += PAGE_BYTES) {
		uint64_t counter = load_u64(data + offset) & mask;

		if (counter != stream->next_counter)
			note_difference(stream, offset, stream->next_counter, counter);
		/* Go on from what was found: one loss counts once. */
		stream->next_counter = (counter + PAGE_BYTES / set_bytes(stream)) & mask;
	}
}

/*
 * A block has been captured when its last set has lasted for one period. The
 * last set whose time is known is the first one of the last page.
 */
static void note_latency(struct stream *stream, const unsigned char *end)
{
	int64_t sets_after = PAGE_BYTES / TIMESTAMPED_SET_BYTES;
	int64_t known_at = (int64_t)load_u64(end - PAGE_BYTES + TIMESTAMP_OFFSET);
	int64_t captured_at = known_at + sets_after * 1000000000 / (int64_t)stream->options.rate;

	stream->latencies[stream->latency_count++] = (double)(realtime_ns() - captured_at) * 1e-9;
}

void stream_lost(struct stream *stream, uint64_t sets)
{
	stream->reports += sets > 0;
	stream->reported_sets += sets;
	stream->next_counter += sets;
}

void stream_arrived(struct stream *stream, const unsigned char *data, uint64_t length)
{
	if (stream->options.rate && (stream->bytes + length) % stream->options.block_size == 0)
		note_latency(stream, data + length);
	verify(stream, data, length);
	count(stream, length);
}

void stream_fill(struct stream *stream, unsigned char *data, uint64_t length)
{
	for (uint64_t offset = 0; offset < length; offset += PAGE_BYTES) {
		uint64_t counter = htole64((stream->filled + offset) / COUNTER_SET_BYTES);

		memcpy(data + offset, &counter, sizeof(counter));
	}
	stream->filled += length;
}

void stream_sent(struct stream *stream, uint64_t length)
{
	count(stream, length);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

/* In microseconds. The latencies are sorted. */
static double percentile(const struct stream *stream, double fraction)
{
	return stream->latencies[(uint64_t)(fraction * (double)(stream->latency_count - 1) + 0.5)] * 1e6;
}

int stream_end(struct stream *stream)
{
	double seconds = stream->last_at - stream->first_at;
	double megabytes = (double)(stream->bytes - stream->first_bytes) * 1e-6;
	double server_cpu = stream->options.server ? cpu_seconds(stream->options.server) - stream->server_cpu : 0;

	printf("{\"bytes\":%" PRIu64 ",\"seconds\":%.6f,\"mbPerSecond\":%.1f,\"clientCpuSeconds\":%.6f,"
	       "\"serverCpuSeconds\":%.6f,\"mismatches\":%" PRIu64,
	       stream->bytes, seconds, seconds > 0 ? megabytes / seconds : 0, cpu_seconds(0) - stream->cpu,
	       server_cpu, stream->mismatches);
	if (stream->latency_count > 0) {
		qsort(stream->latencies, stream->latency_count, sizeof(double), compare);
		printf(",\"latency\":{\"blocks\":%" PRIu64 ",\"p50Us\":%.1f,\"p99Us\":%.1f}", stream->latency_count,
		       percentile(stream, 0.5), percentile(stream, 0.99));
	}
	if (stream->may_lose)
		printf(",\"loss\":{\"reports\":%" PRIu64 ",\"reportedSets\":%" PRIu64 ",\"unreportedSets\":%" PRId64
		       ",\"misplacedSets\":%" PRIu64 ",\"producedSets\":%" PRIu64 "}",
		       stream->reports, stream->reported_sets, stream->unreported_sets, stream->misplaced_sets,
		       stream->next_counter);
	puts("}");
	return stream->bytes != stream->options.total || stream->mismatches > 0;
}
