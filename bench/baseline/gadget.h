/* SPDX-License-Identifier: MIT */
/*
 * A USB gadget with one FunctionFS function of two endpoints, built through
 * configfs: bulk IN (ep1) for captured samples, bulk OUT (ep2) for those to be
 * played.
 */
#ifndef BASELINE_GADGET_H
#define BASELINE_GADGET_H

#define GADGET_VENDOR_ID "0x1209"
#define GADGET_PRODUCT_ID "0x0001"

struct gadget {
	int ep0;
	int bulk_in;  /* both non-blocking */
	int bulk_out;
};

/* Writes a string to a sysfs or configfs attribute; returns 0 or -errno. */
int write_attribute(const char *path, const char *value);

/*
 * Creates the gadget, mounts FunctionFS, writes the descriptors and binds the
 * gadget to the first controller of the machine.
 */
void gadget_open(struct gadget *gadget);

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
