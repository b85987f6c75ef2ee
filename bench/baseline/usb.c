// SPDX-License-Identifier: MIT
#include "usb.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common.h"

#define VENDOR_ID 0x1209
#define PRODUCT_ID 0x0001

#define PIECE_BYTES (256u << 10)

#define OPEN_TIMEOUT_SECONDS 30
#define OPEN_RETRY_NANOSECONDS 20000000

void fail(const char *what, int error)
{
	errno = 0;
	die("%s: %s", what, libusb_strerror(error));
}

libusb_device_handle *open_gadget(libusb_context **usb)
{
	const struct timespec pause = { .tv_nsec = OPEN_RETRY_NANOSECONDS };
	double give_up_at = seconds_now() + OPEN_TIMEOUT_SECONDS;
	int error = LIBUSB_ERROR_NO_DEVICE;

	while (seconds_now() < give_up_at) {
		libusb_device_handle *device;

		if (libusb_init(usb))
			fail("libusb cannot start", LIBUSB_ERROR_OTHER);
		device = libusb_open_device_with_vid_pid(*usb, VENDOR_ID, PRODUCT_ID);
		if (device) {
			error = libusb_claim_interface(device, 0);
			if (!error)
				return device;
			libusb_close(device);
		}
		libusb_exit(*usb);
		nanosleep(&pause, NULL);
	}
	fail("no usable gadget appeared", error);
}

uint64_t transfer_size(uint64_t block_size)
{
	return block_size % PIECE_BYTES == 0 ? PIECE_BYTES : block_size;
}

unsigned char *allocate_buffer(uint64_t size)
{
	unsigned char *buffer = aligned_alloc(4096, (size + 4095) / 4096 * 4096);

	if (!buffer)
		die("cannot allocate a transfer buffer");
	return buffer;
}

struct libusb_transfer *make_transfer(struct transfers *transfers, unsigned char endpoint, unsigned char *data,
				      uint64_t length, libusb_transfer_cb_fn callback, void *owner)
{
	struct libusb_transfer *transfer = libusb_alloc_transfer(0);

	if (!transfer)
		die("cannot allocate a transfer");
	libusb_fill_bulk_transfer(transfer, transfers->device, endpoint, data, (int)length, callback, owner,
				  TRANSFER_TIMEOUT_MS);
	return transfer;
}

void submit(struct transfers *transfers, struct libusb_transfer *transfer)
{
	int error = libusb_submit_transfer(transfer);

	if (error)
		fail("cannot submit a transfer", error);
	transfers->in_flight++;
}

void completed(struct transfers *transfers, const struct libusb_transfer *transfer)
{
	transfers->in_flight--;
	errno = 0;
	if (transfer->status != LIBUSB_TRANSFER_COMPLETED)
		die("a transfer on endpoint 0x%02x ended with status %d", transfer->endpoint, transfer->status);
}

void run_transfers(struct transfers *transfers)
{
	while (transfers->in_flight > 0) {
		int error = libusb_handle_events(transfers->usb);

		if (error)
			fail("cannot handle USB events", error);
	}
}
