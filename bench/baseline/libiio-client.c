// SPDX-License-Identifier: MIT
/*
 * The library that everybody has, libiio 0.24, as a client: reads a stream
 * or plays one as iio_readdev and iio_writedev do, without the way through
 * a pipe that theirs would take to a checker; or, with --reads or
 * --contexts, reads an attribute and creates contexts that many times.
 *
 * Prints one JSON object.
 */
#include <errno.h>
#include <iio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "stream.h"

static const char *uri = "usb:";
static const char *device_name = "iio-sim-adc";
static const char *attribute = "sampling_frequency";
static uint64_t channel_mask = 0xf;
static uint64_t reads;
static uint64_t contexts;

static struct iio_context *open_context(void)
{
	/* libiio 0.24 cuts the port off the string that it is given. */
	char *copy = strdup(uri);
	struct iio_context *context = iio_create_context_from_uri(copy);

	if (!context)
		die("cannot open %s", uri);
	free(copy);
	return context;
}

static struct iio_device *find_device(struct iio_context *context)
{
	struct iio_device *device = iio_context_find_device(context, device_name);

	errno = 0;
	if (!device)
		die("%s has no device %s", uri, device_name);
	return device;
}

static struct iio_buffer *open_buffer(struct iio_device *device, const struct stream_options *options)
{
	struct iio_buffer *buffer;
	ssize_t set_bytes;

	for (unsigned int i = 0; i < iio_device_get_channels_count(device); i++) {
		struct iio_channel *channel = iio_device_get_channel(device, i);
		long index = iio_channel_get_index(channel);

		if (iio_channel_is_scan_element(channel) && (channel_mask >> index & 1))
			iio_channel_enable(channel);
	}
	if (iio_device_set_kernel_buffers_count(device, (unsigned int)options->blocks))
		die("cannot ask for %llu blocks", (unsigned long long)options->blocks);
	set_bytes = iio_device_get_sample_size(device);
	if (set_bytes <= 0)
		die("%s has no samples in channels 0x%llx", device_name, (unsigned long long)channel_mask);
	buffer = iio_device_create_buffer(device, options->block_size / (uint64_t)set_bytes, false);
	if (!buffer)
		die("cannot open a buffer of %s", device_name);
	return buffer;
}

static int run_stream(struct iio_device *device, const struct stream_options *options)
{
	struct iio_buffer *buffer = open_buffer(device, options);
	struct stream stream;

	stream_begin(&stream, options);
	while (stream.bytes < options->total) {
		ssize_t length = (ssize_t)options->block_size;

		if (options->playback) {
			stream_fill(&stream, iio_buffer_start(buffer), options->block_size);
			length = iio_buffer_push(buffer);
		} else {
			length = iio_buffer_refill(buffer);
		}
		errno = length < 0 ? (int)-length : 0;
		if (length != (ssize_t)options->block_size)
			die("a block has %lld bytes", (long long)length);
		if (options->playback)
			stream_sent(&stream, options->block_size);
		else
			stream_arrived(&stream, iio_buffer_start(buffer), options->block_size);
	}
	iio_buffer_destroy(buffer);
	return stream_end(&stream);
}

static int run_reads(struct iio_device *device)
{
	double started = seconds_now();
	char value[64];

	for (uint64_t i = 0; i < reads; i++) {
		ssize_t length = iio_device_attr_read(device, attribute, value, sizeof(value));

		errno = length < 0 ? (int)-length : 0;
		if (length <= 0)
			die("cannot read %s of %s", attribute, device_name);
	}
	printf("{\"perSecond\":%.1f}\n", (double)reads / (seconds_now() - started));
	return 0;
}

static int run_contexts(void)
{
	double started = seconds_now();

	for (uint64_t i = 0; i < contexts; i++)
		iio_context_destroy(open_context());
	printf("{\"milliseconds\":%.3f}\n", (seconds_now() - started) * 1e3 / (double)contexts);
	return 0;
}

int main(int argc, char **argv)
{
	struct stream_options options = STREAM_DEFAULTS;
	const struct option_spec specs[] = {
		{ "uri", OPTION_TEXT, &uri },
		{ "device", OPTION_TEXT, &device_name },
		{ "channel-mask", OPTION_NUMBER, &channel_mask },
		{ "attribute", OPTION_TEXT, &attribute },
		{ "reads", OPTION_NUMBER, &reads },
		{ "contexts", OPTION_NUMBER, &contexts },
		STREAM_OPTION_SPECS(&options),
	};
	struct iio_context *context;
	int result;

	parse_options(argc, argv, specs, sizeof(specs) / sizeof(specs[0]));
	if (contexts)
		return run_contexts();
	context = open_context();
	result = reads ? run_reads(find_device(context)) : run_stream(find_device(context), &options);
	iio_context_destroy(context);
	return result;
}
