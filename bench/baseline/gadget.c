// SPDX-License-Identifier: MIT
#include "gadget.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/usb/ch9.h>
#include <linux/usb/functionfs.h>

#include "common.h"

#define GADGET_DIR "/sys/kernel/config/usb_gadget/iio-baseline"
#define FUNCTION_DIR GADGET_DIR "/functions/ffs.baseline"
#define CONFIG_DIR GADGET_DIR "/configs/c.1"
#define CONFIG_LINK CONFIG_DIR "/ffs.baseline"
#define MOUNT_POINT "/run/iio-baseline"

#define FULL_SPEED_PACKET 64
#define HIGH_SPEED_PACKET 512
#define SUPER_SPEED_PACKET 1024
#define SUPER_SPEED_MAX_BURST 15

struct plain_endpoints {
	struct usb_interface_descriptor interface;
	struct usb_endpoint_descriptor_no_audio in;
	struct usb_endpoint_descriptor_no_audio out;
} __attribute__((packed));

struct super_speed_endpoints {
	struct usb_interface_descriptor interface;
	struct usb_endpoint_descriptor_no_audio in;
	struct usb_ss_ep_comp_descriptor in_companion;
	struct usb_endpoint_descriptor_no_audio out;
	struct usb_ss_ep_comp_descriptor out_companion;
} __attribute__((packed));

struct descriptors {
	struct usb_functionfs_descs_head_v2 head;
	__le32 full_speed_count;
	__le32 high_speed_count;
	__le32 super_speed_count;
	struct plain_endpoints full_speed;
	struct plain_endpoints high_speed;
	struct super_speed_endpoints super_speed;
} __attribute__((packed));

struct strings {
	struct usb_functionfs_strings_head head;
	__le16 language;
	char interface[sizeof("IIO baseline")];
} __attribute__((packed));

int write_attribute(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		result = -errno;
	close(fd);
	return result;
}

static void require_attribute(const char *path, const char *value)
{
	int result = write_attribute(path, value);

	if (result) {
		errno = -result;
		die("cannot write '%s' to %s", value, path);
	}
}

static void require_directory(const char *path)
{
	if (mkdir(path, 0755) && errno != EEXIST)
		die("cannot create %s", path);
}

static struct usb_interface_descriptor interface_descriptor(void)
{
	return (struct usb_interface_descriptor){
		.bLength = sizeof(struct usb_interface_descriptor),
		.bDescriptorType = USB_DT_INTERFACE,
		.bNumEndpoints = 2,
		.bInterfaceClass = USB_CLASS_VENDOR_SPEC,
		.iInterface = 1,
	};
}

static struct usb_endpoint_descriptor_no_audio bulk_descriptor(uint8_t address, uint16_t packet_size)
{
	return (struct usb_endpoint_descriptor_no_audio){
		.bLength = sizeof(struct usb_endpoint_descriptor_no_audio),
		.bDescriptorType = USB_DT_ENDPOINT,
		.bEndpointAddress = address,
		.bmAttributes = USB_ENDPOINT_XFER_BULK,
		.wMaxPacketSize = htole16(packet_size),
	};
}

static struct usb_ss_ep_comp_descriptor companion_descriptor(void)
{
	return (struct usb_ss_ep_comp_descriptor){
		.bLength = sizeof(struct usb_ss_ep_comp_descriptor),
		.bDescriptorType = USB_DT_SS_ENDPOINT_COMP,
		.bMaxBurst = SUPER_SPEED_MAX_BURST,
	};
}

static struct plain_endpoints plain_endpoints(uint16_t packet_size)
{
	return (struct plain_endpoints){
		.interface = interface_descriptor(),
		.in = bulk_descriptor(USB_DIR_IN | 1, packet_size),
		.out = bulk_descriptor(USB_DIR_OUT | 2, packet_size),
	};
}

static void write_descriptors(int ep0)
{
	struct descriptors descriptors = {
		.head = {
			.magic = htole32(FUNCTIONFS_DESCRIPTORS_MAGIC_V2),
			.length = htole32(sizeof(descriptors)),
			.flags = htole32(FUNCTIONFS_HAS_FS_DESC | FUNCTIONFS_HAS_HS_DESC | FUNCTIONFS_HAS_SS_DESC),
		},
		.full_speed_count = htole32(3),
		.high_speed_count = htole32(3),
		.super_speed_count = htole32(5),
		.full_speed = plain_endpoints(FULL_SPEED_PACKET),
		.high_speed = plain_endpoints(HIGH_SPEED_PACKET),
		.super_speed = {
			.interface = interface_descriptor(),
			.in = bulk_descriptor(USB_DIR_IN | 1, SUPER_SPEED_PACKET),
			.in_companion = companion_descriptor(),
			.out = bulk_descriptor(USB_DIR_OUT | 2, SUPER_SPEED_PACKET),
			.out_companion = companion_descriptor(),
		},
	};
	struct strings strings = {
		.head = {
			.magic = htole32(FUNCTIONFS_STRINGS_MAGIC),
			.length = htole32(sizeof(strings)),
			.str_count = htole32(1),
			.lang_count = htole32(1),
		},
		.language = htole16(0x0409),
		.interface = "IIO baseline",
	};

	if (write(ep0, &descriptors, sizeof(descriptors)) != (ssize_t)sizeof(descriptors))
		die("FunctionFS refused the descriptors");
	if (write(ep0, &strings, sizeof(strings)) != (ssize_t)sizeof(strings))
		die("FunctionFS refused the strings");
}

static void first_udc(char *name, size_t size)
{
	DIR *directory = opendir("/sys/class/udc");
	struct dirent *entry;

	name[0] = '\0';
	while (directory && (entry = readdir(directory))) {
		if (entry->d_name[0] != '.') {
			snprintf(name, size, "%s", entry->d_name);
			break;
		}
	}
	if (directory)
		closedir(directory);
	if (!name[0]) {
		errno = ENODEV;
		die("no USB device controller in /sys/class/udc");
	}
}

static void create_gadget(void)
{
	require_directory(GADGET_DIR);
	require_attribute(GADGET_DIR "/idVendor", GADGET_VENDOR_ID);
	require_attribute(GADGET_DIR "/idProduct", GADGET_PRODUCT_ID);
	require_attribute(GADGET_DIR "/bcdUSB", "0x0320");
	require_directory(GADGET_DIR "/strings/0x409");
	require_attribute(GADGET_DIR "/strings/0x409/product", "iio-bridge baseline");
	require_attribute(GADGET_DIR "/strings/0x409/serialnumber", "baseline");
	require_directory(CONFIG_DIR);
	require_directory(FUNCTION_DIR);
	if (symlink(FUNCTION_DIR, CONFIG_LINK) && errno != EEXIST)
		die("cannot link the function into %s", CONFIG_DIR);
	require_directory(MOUNT_POINT);
	if (mount("baseline", MOUNT_POINT, "functionfs", 0, NULL))
		die("cannot mount FunctionFS on %s", MOUNT_POINT);
}

static int open_endpoint(const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		die("cannot open %s", path);
	return fd;
}

void gadget_open(struct gadget *gadget)
{
	char udc[NAME_MAX + 1];

	create_gadget();
	gadget->ep0 = open_endpoint(MOUNT_POINT "/ep0");
	write_descriptors(gadget->ep0);
	gadget->bulk_in = open_endpoint(MOUNT_POINT "/ep1");
	gadget->bulk_out = open_endpoint(MOUNT_POINT "/ep2");
	first_udc(udc, sizeof(udc));
	require_attribute(GADGET_DIR "/UDC", udc);
}

void gadget_wait_enabled(struct gadget *gadget, int timeout_ms)
{
	struct usb_functionfs_event event = {0};

	while (event.type != FUNCTIONFS_ENABLE) {
		struct pollfd ready = { .fd = gadget->ep0, .events = POLLIN };
		int count = poll(&ready, 1, timeout_ms);

		if (count < 0)
			die("cannot wait for ep0");
		if (count == 0) {
			errno = ETIMEDOUT;
			die("no host configured the gadget");
		}
		if (read(gadget->ep0, &event, sizeof(event)) != (ssize_t)sizeof(event))
			die("cannot read an event from ep0");
	}
}

void gadget_close(struct gadget *gadget)
{
	close(gadget->bulk_in);
	close(gadget->bulk_out);
	write_attribute(GADGET_DIR "/UDC", "\n");
	close(gadget->ep0);
	umount(MOUNT_POINT);
	rmdir(MOUNT_POINT);
	unlink(CONFIG_LINK);
	rmdir(CONFIG_DIR);
	rmdir(FUNCTION_DIR);
	rmdir(GADGET_DIR "/strings/0x409");
	rmdir(GADGET_DIR);
}
