/* SPDX-License-Identifier: MIT */
/*
 * A USB gadget with one FunctionFS function of two endpoints, built through
 * configfs: bulk IN (ep1) for samples and bulk OUT (ep2), which nothing uses
 * but which keeps the couple that an IIO pipe has.
 */
#ifndef BASELINE_GADGET_H
#define BASELINE_GADGET_H

#include <stdbool.h>

#define GADGET_VENDOR_ID "0x1209"
#define GADGET_PRODUCT_ID "0x0001"

struct gadget {
	const char *mount_point; /* where FunctionFS is mounted */
	bool owned;              /* created here, so removed here */
	int ep0;
	int bulk_in;             /* non-blocking */
};

/* Prints "device: ..." with errno's text and exits with 1. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Writes a string to a sysfs or configfs attribute; returns 0 or -errno. */
int write_attribute(const char *path, const char *value);

/*
 * Creates the gadget, mounts FunctionFS, writes the descriptors and binds the
 * gadget to `udc` (NULL: the first one of the machine). With `mount_point` the
 * FunctionFS instance exists already: only the descriptors are written, and
 * whoever mounted it binds the gadget.
 */
void gadget_open(struct gadget *gadget, const char *mount_point, const char *udc);

/* Waits until the host has configured the gadget. */
void gadget_wait_enabled(struct gadget *gadget, int timeout_ms);

/*
 * Closes the endpoints, then unbinds and removes what gadget_open() created.
 * In this order: a DMABUF ioctl on an endpoint of an unbound gadget would
 * dereference NULL in the kernel, and an endpoint that is closed cannot be
 * asked for one.
 */
void gadget_close(struct gadget *gadget);

#endif
