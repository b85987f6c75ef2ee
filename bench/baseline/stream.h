/* SPDX-License-Identifier: MIT */
/*
 * A stream as a program on the host side sees it: what it moves, whether the
 * samples are right, how fast they come and how old they are.
 *
 * The samples are those of the simulated converters' counter signal: sets of
 * 8 bytes, each its own number as a little-endian u64. With --rate they are
 * sets of 16 bytes from the converter that has a timestamp: the low 32 bits
 * of the number, and at byte 8 the time of capture in CLOCK_REALTIME ns.
 * Only the first set in each 4 KiB is looked at, or written: the converters
 * do the same when they are sparse.
 */
#ifndef BASELINE_STREAM_H
#define BASELINE_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "common.h"

#define STREAM_MAX_BLOCKS 64

struct stream_options {
	bool playback;        /* to a DAC rather than from an ADC */
	uint64_t block_size;  /* a multiple of 4096 */
	uint64_t blocks;
	uint64_t total;       /* bytes; a multiple of block_size */
	uint64_t rate;        /* sample sets/s of a timestamped stream, whose latency is measured; else 0 */
	uint64_t server;      /* pid of the server, whose CPU time is measured; or 0 */
};

#define STREAM_DEFAULTS { .block_size = 1 << 20, .blocks = 4, .total = 256 << 20 }

/* For the array that parse_options() takes. */
#define STREAM_OPTION_SPECS(options)                                  \
	{ "playback", OPTION_FLAG, &(options)->playback },           \
	{ "block-size", OPTION_NUMBER, &(options)->block_size },     \
	{ "blocks", OPTION_NUMBER, &(options)->blocks },             \
	{ "total", OPTION_NUMBER, &(options)->total },               \
	{ "rate", OPTION_NUMBER, &(options)->rate },                 \
	{ "server-pid", OPTION_NUMBER, &(options)->server }

struct stream {
	struct stream_options options;
	uint64_t bytes;        /* moved so far */
	uint64_t filled;       /* playback: bytes given out by stream_fill() */
	uint64_t next_counter; /* capture: number of the next set */
	uint64_t mismatches;
	bool may_lose;         /* the converter has a clock, so that samples are lost when nobody keeps up with it */
	int64_t unreported_sets; /* in all: lost without a report, less reported without a loss */
	uint64_t misplaced_sets; /* reported with another block than the one they were lost before */
	uint64_t reported_sets;
	uint64_t reports;
	double first_at;       /* the first piece starts the clock and does not count */
	double last_at;
	uint64_t first_bytes;
	double cpu;
	double server_cpu;
	double *latencies;     /* seconds, of one block each */
	uint64_t latency_count;
};

/* Starts the measurement, or ends the program if the options make no sense. */
void stream_begin(struct stream *stream, const struct stream_options *options);

/* The server has reported a loss just before the next piece. */
void stream_lost(struct stream *stream, uint64_t sets);

/* Takes the next piece of a captured stream; `length` is a multiple of 4096, and no piece lies across blocks. */
void stream_arrived(struct stream *stream, const unsigned char *data, uint64_t length);

/* Writes the next piece of a stream to be played. */
void stream_fill(struct stream *stream, unsigned char *data, uint64_t length);

/* The next piece of a played stream has been taken. */
void stream_sent(struct stream *stream, uint64_t length);

/* Prints the result as one JSON object. Returns main()'s: 0 if all bytes have come, and were right. */
int stream_end(struct stream *stream);

#endif
