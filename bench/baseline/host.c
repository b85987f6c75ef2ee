// SPDX-License-Identifier: MIT
#include "host.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define VENDOR_ID 0x1209
#define PRODUCT_ID 0x0001

#define OPEN_TIMEOUT_SECONDS 30
#define OPEN_RETRY_NANOSECONDS 20000000

#define SAMPLE_SET_BYTES sizeof(uint64_t)
/* The sparse generator writes one sample set at the start of each page. */
#define SPARSE_STRIDE_BYTES 4096

void fail(const char *what, int error)
{
	fprintf(stderr, "reader: %s: %s\n", what, libusb_strerror(error));
	exit(1);
}

double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
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

unsigned char *allocate_buffer(libusb_device_handle *device, uint64_t size, bool usbfs_mapped)
{
	unsigned char *buffer;

	if (usbfs_mapped)
		buffer = libusb_dev_mem_alloc(device, size);
	else
		buffer = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
	if (!buffer)
		fail("cannot allocate a transfer buffer", LIBUSB_ERROR_NO_MEM);
	return buffer;
}

struct libusb_transfer *allocate_transfer(void)
{
	struct libusb_transfer *transfer = libusb_alloc_transfer(0);

	if (!transfer)
		fail("cannot allocate a transfer", LIBUSB_ERROR_NO_MEM);
	return transfer;
}

bool parse_verification(const char *name, enum verification *verification)
{
	static const char *const names[] = {
		[VERIFY_NONE] = "none",
		[VERIFY_SPARSE] = "sparse",
		[VERIFY_FULL] = "full",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			*verification = (enum verification)i;
			return true;
		}
	}
	return false;
}

void verify(struct verifier *verifier, const unsigned char *data, uint64_t length)
{
	uint64_t stride = SAMPLE_SET_BYTES;
	uint64_t first = verifier->next_counter;

	if (verifier->verification == VERIFY_NONE)
		return;
	if (verifier->verification == VERIFY_SPARSE)
		stride = SPARSE_STRIDE_BYTES;
	for (uint64_t offset = 0; offset < length; offset += stride) {
		uint64_t expected = first + offset / SAMPLE_SET_BYTES;
		uint64_t counter;

		memcpy(&counter, data + offset, sizeof(counter));
		counter = le64toh(counter);
		if (counter == expected)
			continue;
		if (verifier->mismatches++ == 0)
			fprintf(stderr, "reader: at byte %llu: expected counter %llu, found %llu\n",
				(unsigned long long)(verifier->bytes + offset), (unsigned long long)expected,
				(unsigned long long)counter);
		/* Go on from what was found: one loss counts once. */
		first = counter - offset / SAMPLE_SET_BYTES;
	}
	verifier->next_counter = first + length / SAMPLE_SET_BYTES;
	verifier->bytes += length;
}

void meter_arrival(struct meter *meter, uint64_t bytes)
{
	meter->last_at = seconds_now();
	if (meter->bytes == 0) {
		meter->first_at = meter->last_at;
		meter->first_bytes = bytes;
	}
	meter->bytes += bytes;
}

void print_result(const struct meter *meter, const struct verifier *verifier, double cpu, double server_cpu)
{
	double seconds = meter->last_at - meter->first_at;
	double megabytes = (double)(meter->bytes - meter->first_bytes) * 1e-6;
	double gigabytes = (double)meter->bytes * 1e-9;

	printf("{\"bytes\":%llu,\"seconds\":%.6f,\"mbPerSecond\":%.1f,\"hostCpuSecondsPerGb\":%.6f,"
	       "\"serverCpuSeconds\":%.6f,\"mismatches\":%llu}\n",
	       (unsigned long long)meter->bytes, seconds, seconds > 0 ? megabytes / seconds : 0,
	       gigabytes > 0 ? cpu / gigabytes : 0, server_cpu,
	       (unsigned long long)verifier->mismatches);
}
