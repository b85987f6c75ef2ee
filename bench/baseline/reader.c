// SPDX-License-Identifier: MIT
/*
 * The bare host side: keeps several bulk IN transfers in flight and checks
 * the counter pattern in what arrives.
 *
 * Prints one JSON object when `--total` bytes have arrived.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "host.h"

#define BULK_IN (LIBUSB_ENDPOINT_IN | 1)
#define MAX_TRANSFERS 64

struct options {
	uint64_t transfer_size;
	unsigned int transfers;
	uint64_t total;
	enum verification verification;
	bool usbfs_mapped;
};

struct reader {
	struct options options;
	libusb_context *usb;
	libusb_device_handle *device;
	struct verifier verifier;
	struct meter meter;
	unsigned int in_flight;
	uint64_t requested;
	bool failed;
};

static void submit(struct reader *reader, struct libusb_transfer *transfer)
{
	int error = libusb_submit_transfer(transfer);

	if (error)
		fail("cannot submit a transfer", error);
	reader->in_flight++;
	reader->requested += (uint64_t)transfer->length;
}

static void LIBUSB_CALL on_transfer(struct libusb_transfer *transfer)
{
	struct reader *reader = transfer->user_data;
	uint64_t length = (uint64_t)transfer->actual_length;

	reader->in_flight--;
	if (transfer->status != LIBUSB_TRANSFER_COMPLETED) {
		if (!reader->failed)
			fprintf(stderr, "reader: a transfer ended with status %d after %llu bytes\n", transfer->status,
				(unsigned long long)reader->meter.bytes);
		reader->failed = true;
		return;
	}
	meter_arrival(&reader->meter, length);
	verify(&reader->verifier, transfer->buffer, length);
	if (reader->requested < reader->options.total && !reader->failed)
		submit(reader, transfer);
}

static void run(struct reader *reader)
{
	const struct options *options = &reader->options;

	for (unsigned int i = 0; i < options->transfers && reader->requested < options->total; i++) {
		struct libusb_transfer *transfer = allocate_transfer();
		unsigned char *buffer = allocate_buffer(reader->device, options->transfer_size, options->usbfs_mapped);

		libusb_fill_bulk_transfer(transfer, reader->device, BULK_IN, buffer, (int)options->transfer_size,
					  on_transfer, reader, TRANSFER_TIMEOUT_MS);
		submit(reader, transfer);
	}
	while (reader->in_flight > 0) {
		int error = libusb_handle_events(reader->usb);

		if (error)
			fail("cannot handle USB events", error);
	}
}

static void usage(void)
{
	fputs("usage: reader [--transfer-size BYTES] [--transfers N] [--total BYTES] [--verify none|sparse|full]\n"
	      "              [--usbfs-mapped]\n"
	      "--total is a multiple of --transfer-size, which is a multiple of 1024\n",
	      stderr);
	exit(2);
}

static struct options parse_options(int argc, char **argv)
{
	enum { OPT_TRANSFER_SIZE, OPT_TRANSFERS, OPT_TOTAL, OPT_VERIFY, OPT_USBFS_MAPPED };
	static const struct option known[] = {
		{ "transfer-size", required_argument, NULL, OPT_TRANSFER_SIZE },
		{ "transfers", required_argument, NULL, OPT_TRANSFERS },
		{ "total", required_argument, NULL, OPT_TOTAL },
		{ "verify", required_argument, NULL, OPT_VERIFY },
		{ "usbfs-mapped", no_argument, NULL, OPT_USBFS_MAPPED },
		{ NULL, 0, NULL, 0 },
	};
	struct options options = {
		.transfer_size = 256 << 10,
		.transfers = 16,
		.total = 256 << 20,
		.verification = VERIFY_FULL,
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case OPT_TRANSFER_SIZE:
			options.transfer_size = strtoull(optarg, NULL, 0);
			break;
		case OPT_TRANSFERS:
			options.transfers = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case OPT_TOTAL:
			options.total = strtoull(optarg, NULL, 0);
			break;
		case OPT_VERIFY:
			if (!parse_verification(optarg, &options.verification))
				usage();
			break;
		case OPT_USBFS_MAPPED:
			options.usbfs_mapped = true;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || options.transfer_size == 0 || options.transfer_size % MAX_PACKET_BYTES != 0 ||
	    options.total == 0 || options.total % options.transfer_size != 0 || options.transfers == 0 ||
	    options.transfers > MAX_TRANSFERS)
		usage();
	return options;
}

int main(int argc, char **argv)
{
	struct reader reader = { .options = parse_options(argc, argv) };
	double cpu;

	reader.verifier.verification = reader.options.verification;
	reader.device = open_gadget(&reader.usb);
	cpu = cpu_seconds();
	run(&reader);
	print_result(&reader.meter, &reader.verifier, cpu_seconds() - cpu, 0);
	return reader.failed || reader.verifier.mismatches > 0 || reader.meter.bytes != reader.options.total;
}
