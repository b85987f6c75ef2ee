// SPDX-License-Identifier: MIT
/*
 * The bare device side: samples go from an IIO device to a FunctionFS bulk IN
 * endpoint, or from bulk OUT to an IIO device, in the shortest C loop that
 * does it right. iio-bridge is measured against this program, so it makes the
 * same system calls per block and nothing else: no protocol, no headers, one
 * endpoint, one stream.
 *
 * capture:  ENQUEUE to the IIO buffer, poll, TRANSFER to the endpoint, poll.
 * playback: TRANSFER from the endpoint, poll, ENQUEUE to the IIO buffer, poll.
 *
 * Prints one JSON object when all blocks have gone all the way.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/sync_file.h>
#include <linux/types.h>

#include "common.h"
#include "gadget.h"

#define MAX_BLOCKS 64
#define IIO_DEVICES "/sys/bus/iio/devices"
#define HEAP "/dev/dma_heap/system"
#define HOST_TIMEOUT_MS 60000
#define STALL_TIMEOUT_MS 60000

/* include/uapi/linux/usb/functionfs.h, Linux 6.9 and later. */
struct functionfs_dmabuf_transfer {
	int fd;
	__u32 flags;
	__u64 length;
} __attribute__((packed));
_Static_assert(sizeof(struct functionfs_dmabuf_transfer) == 16, "UAPI size");

#define FFS_DMABUF_ATTACH _IOW('g', 131, int)
#define FFS_DMABUF_TRANSFER _IOW('g', 133, struct functionfs_dmabuf_transfer)

/* include/uapi/linux/iio/buffer.h, Linux 6.11 and later. */
struct iio_dmabuf_request {
	__u32 fd;
	__u32 flags;
	__u64 bytes_used;
};
_Static_assert(sizeof(struct iio_dmabuf_request) == 16, "UAPI size");

#define IIO_GET_BUFFER_FD _IOWR('i', 0x91, int)
#define IIO_DMABUF_ATTACH _IOW('i', 0x92, int)
#define IIO_DMABUF_ENQUEUE _IOW('i', 0x94, struct iio_dmabuf_request)

/* include/uapi/linux/dma-buf.h, Linux 6.0 and later. */
#ifndef DMA_BUF_IOCTL_EXPORT_SYNC_FILE
struct dma_buf_export_sync_file {
	__u32 flags;
	__s32 fd;
};
#define DMA_BUF_IOCTL_EXPORT_SYNC_FILE _IOWR(DMA_BUF_BASE, 2, struct dma_buf_export_sync_file)
#endif

struct options {
	const char *device;
	bool playback;
	uint64_t block_size;
	uint64_t blocks;
	uint64_t total;
	uint64_t channel_mask;
};

/*
 * A block is, in this order and over again: queued to be filled, filled,
 * queued to be emptied, emptied. Blocks keep their order, so three counters
 * say which block is in which state.
 */
struct block {
	int dmabuf;
	int fence; /* sync_file of the operation under way, or -1 */
};

struct chain {
	struct options options;
	struct gadget gadget;
	char sysfs[PATH_MAX - NAME_MAX]; /* the device's directory */
	int buffer;
	int endpoint;
	struct block blocks[MAX_BLOCKS];
	uint64_t target;                 /* blocks to move */
	uint64_t queued;                 /* to be filled, so far */
	uint64_t filled;
	uint64_t emptied;
};

static void set_device_attribute(const struct chain *chain, const char *name, const char *value)
{
	char path[PATH_MAX];
	int result;

	snprintf(path, sizeof(path), "%s/%s", chain->sysfs, name);
	result = write_attribute(path, value);
	if (result) {
		errno = -result;
		die("cannot write '%s' to %s", value, path);
	}
}

/* Returns the device's number, and leaves its directory in chain->sysfs. */
static int find_device(struct chain *chain)
{
	DIR *directory = opendir(IIO_DEVICES);
	const char *wanted = chain->options.device;
	struct dirent *entry;
	int number = -1;

	if (!directory)
		die("cannot list %s", IIO_DEVICES);
	while (number < 0 && (entry = readdir(directory))) {
		char path[PATH_MAX];
		char name[128] = "";
		int candidate;
		FILE *file;

		if (sscanf(entry->d_name, "iio:device%d", &candidate) != 1)
			continue;
		snprintf(path, sizeof(path), IIO_DEVICES "/%s/name", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%127s", name) == 1 && strcmp(name, wanted) == 0) {
			number = candidate;
			snprintf(chain->sysfs, sizeof(chain->sysfs), IIO_DEVICES "/%.32s", entry->d_name);
		}
		fclose(file);
	}
	closedir(directory);
	if (number < 0) {
		errno = ENODEV;
		die("no IIO device is called %s", wanted);
	}
	return number;
}

/* The file of a channel's index is beside its _en. */
static void enable_channels(const struct chain *chain)
{
	char path[PATH_MAX];
	DIR *directory;
	struct dirent *entry;

	snprintf(path, sizeof(path), "%s/buffer0", chain->sysfs);
	directory = opendir(path);
	if (!directory)
		die("cannot list %s", path);
	while ((entry = readdir(directory))) {
		char *suffix = strrchr(entry->d_name, '_');
		char attribute[PATH_MAX];
		unsigned int index;
		FILE *file;

		if (!suffix || strcmp(suffix, "_en") != 0)
			continue;
		*suffix = '\0';
		snprintf(attribute, sizeof(attribute), "%s/buffer0/%.64s_index", chain->sysfs, entry->d_name);
		file = fopen(attribute, "re");
		if (!file || fscanf(file, "%u", &index) != 1)
			die("cannot read %s", attribute);
		fclose(file);
		snprintf(attribute, sizeof(attribute), "buffer0/%.64s_en", entry->d_name);
		set_device_attribute(chain, attribute, chain->options.channel_mask >> index & 1 ? "1" : "0");
	}
	closedir(directory);
}

static int open_buffer(int device_number)
{
	char path[64];
	int buffer = 0;
	int device;

	snprintf(path, sizeof(path), "/dev/iio:device%d", device_number);
	device = open(path, O_RDWR | O_CLOEXEC);
	if (device < 0)
		die("cannot open %s", path);
	if (ioctl(device, IIO_GET_BUFFER_FD, &buffer))
		die("cannot get buffer 0 of %s", path);
	close(device);
	if (fcntl(buffer, F_SETFL, O_RDWR | O_NONBLOCK))
		die("cannot make the buffer non-blocking");
	return buffer;
}

static int allocate_dmabuf(uint64_t size)
{
	struct dma_heap_allocation_data request = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int fd = open(HEAP, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("cannot open " HEAP);
	if (ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &request))
		die("cannot allocate %llu bytes from " HEAP, (unsigned long long)size);
	close(fd);
	return (int)request.fd;
}

/*
 * All blocks are attached before the first is queued: in Linux 6.12 an ATTACH
 * drops what was queued and not yet submitted.
 */
static void create_blocks(struct chain *chain)
{
	for (unsigned int i = 0; i < chain->options.blocks; i++) {
		struct block *block = &chain->blocks[i];

		block->fence = -1;
		block->dmabuf = allocate_dmabuf(chain->options.block_size);
		if (ioctl(chain->buffer, IIO_DMABUF_ATTACH, &block->dmabuf))
			die("cannot attach block %u to the IIO buffer", i);
		if (ioctl(chain->endpoint, FFS_DMABUF_ATTACH, &block->dmabuf))
			die("cannot attach block %u to the endpoint", i);
	}
}

static struct block *block_at(struct chain *chain, uint64_t position)
{
	return &chain->blocks[position % chain->options.blocks];
}

/* The fence must be exported while the operation is pending: afterwards its status is a constant 1. */
static void export_fence(struct block *block, __u32 access)
{
	struct dma_buf_export_sync_file request = { .flags = access, .fd = -1 };

	if (ioctl(block->dmabuf, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request))
		die("cannot export a fence");
	block->fence = request.fd;
}

static void check_fence(struct block *block, const char *operation)
{
	struct sync_file_info info;

	memset(&info, 0, sizeof(info));
	if (ioctl(block->fence, SYNC_IOC_FILE_INFO, &info))
		die("cannot read the status of a fence");
	close(block->fence);
	block->fence = -1;
	if (info.status != 1) {
		errno = info.status < 0 ? -info.status : EINPROGRESS;
		die("%s failed", operation);
	}
}

static void queue_to_iio(struct chain *chain, struct block *block)
{
	struct iio_dmabuf_request request = {
		.fd = (__u32)block->dmabuf,
		.bytes_used = chain->options.block_size,
	};

	if (ioctl(chain->buffer, IIO_DMABUF_ENQUEUE, &request))
		die("cannot queue a block to the IIO buffer");
}

static void queue_to_usb(struct chain *chain, struct block *block)
{
	struct functionfs_dmabuf_transfer request = {
		.fd = block->dmabuf,
		.length = chain->options.block_size,
	};

	if (ioctl(chain->endpoint, FFS_DMABUF_TRANSFER, &request))
		die("cannot queue a block to the endpoint");
}

/* Who fills a dmabuf holds its write fence until done. */
static void queue_fill(struct chain *chain)
{
	struct block *block = block_at(chain, chain->queued++);

	if (chain->options.playback)
		queue_to_usb(chain, block);
	else
		queue_to_iio(chain, block);
	export_fence(block, DMA_BUF_SYNC_READ);
}

/* Who empties it holds a read fence. */
static void on_filled(struct chain *chain)
{
	struct block *block = block_at(chain, chain->filled++);

	check_fence(block, "filling a block");
	if (chain->options.playback)
		queue_to_iio(chain, block);
	else
		queue_to_usb(chain, block);
	export_fence(block, DMA_BUF_SYNC_WRITE);
}

static void on_emptied(struct chain *chain)
{
	check_fence(block_at(chain, chain->emptied++), "emptying a block");
	if (chain->queued < chain->target)
		queue_fill(chain);
}

/* Waits for the oldest block that is being filled (POLLIN when done) and the oldest that is being emptied (POLLOUT). */
static void run_chain(struct chain *chain)
{
	while (chain->emptied < chain->target) {
		struct pollfd waits[2] = {
			{ .fd = -1, .events = POLLIN },
			{ .fd = -1, .events = POLLOUT },
		};
		int count;

		if (chain->filled < chain->queued)
			waits[0].fd = block_at(chain, chain->filled)->dmabuf;
		if (chain->emptied < chain->filled)
			waits[1].fd = block_at(chain, chain->emptied)->dmabuf;
		count = poll(waits, 2, STALL_TIMEOUT_MS);
		if (count == 0)
			errno = ETIMEDOUT;
		if (count <= 0)
			die("the stream stalled: %llu blocks queued, %llu filled, %llu emptied",
			    (unsigned long long)chain->queued, (unsigned long long)chain->filled,
			    (unsigned long long)chain->emptied);
		if (waits[0].revents)
			on_filled(chain);
		if (waits[1].revents)
			on_emptied(chain);
	}
}

static struct chain chain = {
	.options = {
		.device = "iio-sim-adc",
		.block_size = 1 << 20,
		.blocks = 4,
		.total = 256 << 20,
		.channel_mask = 0xf,
	},
	.gadget = { .ep0 = -1, .bulk_in = -1, .bulk_out = -1 },
};

static void close_chain(void)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/buffer0/enable", chain.sysfs);
	if (chain.sysfs[0])
		write_attribute(path, "0");
	gadget_close(&chain.gadget);
}

int main(int argc, char **argv)
{
	struct options *options = &chain.options;
	const struct option_spec specs[] = {
		{ "device", OPTION_TEXT, &options->device },
		{ "playback", OPTION_FLAG, &options->playback },
		{ "block-size", OPTION_NUMBER, &options->block_size },
		{ "blocks", OPTION_NUMBER, &options->blocks },
		{ "total", OPTION_NUMBER, &options->total },
		{ "channel-mask", OPTION_NUMBER, &options->channel_mask },
	};
	int device_number;
	double cpu;

	parse_options(argc, argv, specs, sizeof(specs) / sizeof(specs[0]));
	if (options->block_size == 0 || options->blocks == 0 || options->blocks > MAX_BLOCKS ||
	    options->total < options->block_size)
		die("there is nothing to move");
	chain.target = options->total / options->block_size;
	device_number = find_device(&chain);
	set_device_attribute(&chain, "buffer0/enable", "0");
	enable_channels(&chain);

	atexit(close_chain);
	gadget_open(&chain.gadget);
	chain.endpoint = options->playback ? chain.gadget.bulk_out : chain.gadget.bulk_in;
	gadget_wait_enabled(&chain.gadget, HOST_TIMEOUT_MS);
	chain.buffer = open_buffer(device_number);
	create_blocks(&chain);

	cpu = cpu_seconds(0);
	while (chain.queued < options->blocks && chain.queued < chain.target)
		queue_fill(&chain);
	set_device_attribute(&chain, "buffer0/enable", "1");
	run_chain(&chain);
	printf("{\"blocks\":%llu,\"cpuSeconds\":%.6f}\n", (unsigned long long)chain.target, cpu_seconds(0) - cpu);
	return 0;
}
