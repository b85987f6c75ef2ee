/* SPDX-License-Identifier: MIT */
/* libusb, for the programs on the host side of the cable. */
#ifndef BASELINE_USB_H
#define BASELINE_USB_H

#include <stdbool.h>
#include <stdint.h>

#include <libusb-1.0/libusb.h>

#define MAX_PACKET_BYTES 1024
#define TRANSFER_TIMEOUT_MS 60000

/* Prints WHAT and libusb's words, and exits with 1. */
void fail(const char *what, int error) __attribute__((noreturn));

/*
 * Opens the gadget and claims its interface 0; waits for it if need be. libusb
 * learns of new devices from udevd, which may be absent, or when it is
 * initialised: so it is initialised again for every attempt.
 */
libusb_device_handle *open_gadget(libusb_context **usb);

/* Size of the transfers that a block is moved in: small ones whole, others in pieces. */
uint64_t transfer_size(uint64_t block_size);

/* Page-aligned memory. */
unsigned char *allocate_buffer(uint64_t size);

/* Transfers of one program that are under way. The program ends with the first that fails. */
struct transfers {
	libusb_context *usb;
	libusb_device_handle *device;
	unsigned int in_flight;
};

struct libusb_transfer *make_transfer(struct transfers *transfers, unsigned char endpoint, unsigned char *data,
				      uint64_t length, libusb_transfer_cb_fn callback, void *owner);

void submit(struct transfers *transfers, struct libusb_transfer *transfer);

/* First thing in a transfer's callback. */
void completed(struct transfers *transfers, const struct libusb_transfer *transfer);

/* Handles events until nothing is in flight. */
void run_transfers(struct transfers *transfers);

#endif
