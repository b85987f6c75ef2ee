/* SPDX-License-Identifier: MIT */
/* What the programs on the host side of the cable share. */
#ifndef BASELINE_HOST_H
#define BASELINE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include <libusb-1.0/libusb.h>

#define MAX_PACKET_BYTES 1024
#define TRANSFER_TIMEOUT_MS 20000

/* Prints "reader: WHAT: libusb's words" and exits with 1. */
void fail(const char *what, int error) __attribute__((noreturn));

double seconds_now(void);
double cpu_seconds(void);

/*
 * Opens the gadget and claims its interface 0; waits for it if need be. libusb
 * learns of new devices from udevd, which may be absent, or when it is
 * initialised: so it is initialised again for every attempt.
 */
libusb_device_handle *open_gadget(libusb_context **usb);

/* A buffer for transfers: page-aligned memory, or mapped from usbfs. */
unsigned char *allocate_buffer(libusb_device_handle *device, uint64_t size, bool usbfs_mapped);

struct libusb_transfer *allocate_transfer(void);

enum verification { VERIFY_NONE, VERIFY_SPARSE, VERIFY_FULL };

/* Returns false if there is no such kind. */
bool parse_verification(const char *name, enum verification *verification);

/*
 * Checks the counter pattern: every sample set is the little-endian 64-bit
 * number of the set, so a lost, repeated or damaged one shows at the place
 * where it happened.
 */
struct verifier {
	enum verification verification;
	uint64_t next_counter;
	uint64_t bytes;
	uint64_t mismatches;
};

/* Takes the next piece of the stream; `length` is a multiple of 8. */
void verify(struct verifier *verifier, const unsigned char *data, uint64_t length);

/* The time in which bytes arrived; the first arrival starts the clock and does not count. */
struct meter {
	double first_at;
	double last_at;
	uint64_t bytes;
	uint64_t first_bytes;
};

void meter_arrival(struct meter *meter, uint64_t bytes);

/* Prints the result as one JSON object. CPU times are those of the whole run in seconds, 0 if not known. */
void print_result(const struct meter *meter, const struct verifier *verifier, double cpu, double server_cpu);

#endif
