// SPDX-License-Identifier: MIT
/*
 * The bare host side: keeps the bytes of `--blocks` blocks in flight in bulk
 * transfers, takes what arrives or sends a stream to be played.
 *
 * Prints one JSON object when `--total` bytes have moved.
 */
#include "common.h"
#include "stream.h"
#include "usb.h"

#define BULK_IN (LIBUSB_ENDPOINT_IN | 1)
#define BULK_OUT (LIBUSB_ENDPOINT_OUT | 2)

struct bulk {
	struct transfers transfers;
	struct stream stream;
	uint64_t submitted;
};

static void next(struct bulk *bulk, struct libusb_transfer *transfer)
{
	if (bulk->submitted >= bulk->stream.options.total)
		return;
	bulk->submitted += (uint64_t)transfer->length;
	if (bulk->stream.options.playback)
		stream_fill(&bulk->stream, transfer->buffer, (uint64_t)transfer->length);
	submit(&bulk->transfers, transfer);
}

static void LIBUSB_CALL on_transfer(struct libusb_transfer *transfer)
{
	struct bulk *bulk = transfer->user_data;

	completed(&bulk->transfers, transfer);
	if (bulk->stream.options.playback)
		stream_sent(&bulk->stream, (uint64_t)transfer->actual_length);
	else
		stream_arrived(&bulk->stream, transfer->buffer, (uint64_t)transfer->actual_length);
	next(bulk, transfer);
}

int main(int argc, char **argv)
{
	static struct bulk bulk;
	struct stream_options options = STREAM_DEFAULTS;
	const struct option_spec specs[] = { STREAM_OPTION_SPECS(&options) };
	uint64_t size;

	parse_options(argc, argv, specs, sizeof(specs) / sizeof(specs[0]));
	bulk.transfers.device = open_gadget(&bulk.transfers.usb);
	stream_begin(&bulk.stream, &options);

	size = transfer_size(options.block_size);
	for (uint64_t i = 0; i < options.blocks * options.block_size / size; i++)
		next(&bulk, make_transfer(&bulk.transfers, options.playback ? BULK_OUT : BULK_IN,
					  allocate_buffer(size), size, on_transfer, &bulk));
	run_transfers(&bulk.transfers);
	return stream_end(&bulk.stream);
}
