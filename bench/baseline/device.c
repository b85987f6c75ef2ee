// SPDX-License-Identifier: MIT
/*
 * The bare device side: samples of an IIO device go to a FunctionFS bulk IN
 * endpoint in the shortest C loop that does it right. iio-bridge is measured
 * against this program, so it makes the same system calls per block and
 * nothing else: no protocol, no headers, one endpoint, one stream.
 *
 * zero-copy: ENQUEUE to the IIO buffer, poll, TRANSFER to the endpoint, poll.
 * copy:      the dmabuf is mapped, and an asynchronous write() sends it.
 *
 * Prints one JSON object when all bytes have been taken by the host.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/aio_abi.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/sync_file.h>
#include <linux/types.h>

#include "gadget.h"

#define MAX_BLOCKS 64
#define IIO_DEVICES "/sys/bus/iio/devices"
#define HOST_TIMEOUT_MS 30000
#define STALL_TIMEOUT_MS 10000

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
	const char *heap;
	const char *udc;
	const char *mount_point;
	bool copy;
	bool check_fences;
	uint64_t block_size;
	unsigned int block_count;
	uint64_t total;
};

/*
 * A block is, in this order and over again: queued to the IIO buffer, filled,
 * queued to the endpoint, sent. Blocks keep their order, so three counters say
 * which block is in which state.
 */
struct block {
	int dmabuf;
	int fence;         /* sync_file of the operation under way, or -1 */
	void *mapping;     /* copy mode only */
	struct iocb write; /* copy mode only */
};

struct chain {
	const struct options *options;
	struct gadget gadget;
	char sysfs[PATH_MAX - NAME_MAX]; /* the device's directory */
	int buffer;
	struct block blocks[MAX_BLOCKS];
	uint64_t target;                 /* blocks to send */
	uint64_t queued;                 /* handed to the IIO buffer so far */
	uint64_t filled;
	uint64_t sent;
	aio_context_t aio;
	int aio_done;                    /* eventfd */
};

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double seconds_of(struct timeval time)
{
	return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

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
	const char *wanted = chain->options->device;
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
		const char *suffix = strrchr(entry->d_name, '_');
		char attribute[PATH_MAX];

		if (!suffix || strcmp(suffix, "_en") != 0)
			continue;
		snprintf(attribute, sizeof(attribute), "buffer0/%s", entry->d_name);
		set_device_attribute(chain, attribute, "1");
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

static int allocate_dmabuf(const char *heap, uint64_t size)
{
	struct dma_heap_allocation_data request = {
		.len = size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "/dev/dma_heap/%s", heap);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("cannot open %s", path);
	if (ioctl(fd, DMA_HEAP_IOCTL_ALLOC, &request))
		die("cannot allocate %llu bytes from %s", (unsigned long long)size, path);
	close(fd);
	return (int)request.fd;
}

/*
 * All blocks are attached before the first is queued: in Linux 6.12 an ATTACH
 * drops what was queued and not yet submitted.
 */
static void create_blocks(struct chain *chain)
{
	const struct options *options = chain->options;

	for (unsigned int i = 0; i < options->block_count; i++) {
		struct block *block = &chain->blocks[i];

		block->fence = -1;
		block->dmabuf = allocate_dmabuf(options->heap, options->block_size);
		if (ioctl(chain->buffer, IIO_DMABUF_ATTACH, &block->dmabuf))
			die("cannot attach block %u to the IIO buffer", i);
		if (options->copy) {
			block->mapping = mmap(NULL, options->block_size, PROT_READ, MAP_SHARED | MAP_POPULATE,
					      block->dmabuf, 0);
			if (block->mapping == MAP_FAILED)
				die("cannot map block %u", i);
		} else if (ioctl(chain->gadget.bulk_in, FFS_DMABUF_ATTACH, &block->dmabuf)) {
			die("cannot attach block %u to the endpoint", i);
		}
	}
	if (options->copy) {
		if (syscall(SYS_io_setup, MAX_BLOCKS, &chain->aio))
			die("io_setup failed");
		chain->aio_done = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (chain->aio_done < 0)
			die("cannot create an eventfd");
	}
}

static struct block *block_at(struct chain *chain, uint64_t position)
{
	return &chain->blocks[position % chain->options->block_count];
}

/* The fence must be exported while the operation is pending: afterwards its status is a constant 1. */
static void export_fence(struct chain *chain, struct block *block, __u32 access)
{
	struct dma_buf_export_sync_file request = { .flags = access, .fd = -1 };

	if (!chain->options->check_fences)
		return;
	if (ioctl(block->dmabuf, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &request))
		die("cannot export a fence");
	block->fence = request.fd;
}

static void check_fence(struct block *block, const char *operation)
{
	struct sync_file_info info;

	if (block->fence < 0)
		return;
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

static void queue_capture(struct chain *chain)
{
	struct block *block = block_at(chain, chain->queued);
	struct iio_dmabuf_request request = {
		.fd = (__u32)block->dmabuf,
		.bytes_used = chain->options->block_size,
	};

	if (ioctl(chain->buffer, IIO_DMABUF_ENQUEUE, &request))
		die("cannot queue block %llu to the IIO buffer", (unsigned long long)chain->queued);
	export_fence(chain, block, DMA_BUF_SYNC_READ);
	chain->queued++;
}

static void queue_send_dmabuf(struct chain *chain, struct block *block)
{
	struct functionfs_dmabuf_transfer request = {
		.fd = block->dmabuf,
		.length = chain->options->block_size,
	};

	if (ioctl(chain->gadget.bulk_in, FFS_DMABUF_TRANSFER, &request))
		die("cannot queue block %llu to the endpoint", (unsigned long long)chain->filled);
	export_fence(chain, block, DMA_BUF_SYNC_WRITE);
}

/* FunctionFS copies the data inside io_submit(), so the CPU access ends when that returns. */
static void queue_send_copy(struct chain *chain, struct block *block)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	struct iocb *submission = &block->write;

	if (ioctl(block->dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		die("cannot begin CPU access");
	memset(submission, 0, sizeof(*submission));
	submission->aio_lio_opcode = IOCB_CMD_PWRITE;
	submission->aio_fildes = (__u32)chain->gadget.bulk_in;
	submission->aio_buf = (__u64)(uintptr_t)block->mapping;
	submission->aio_nbytes = chain->options->block_size;
	submission->aio_flags = IOCB_FLAG_RESFD;
	submission->aio_resfd = (__u32)chain->aio_done;
	if (syscall(SYS_io_submit, chain->aio, 1L, &submission) != 1)
		die("cannot submit a write to the endpoint");
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
	if (ioctl(block->dmabuf, DMA_BUF_IOCTL_SYNC, &sync))
		die("cannot end CPU access");
}

static void on_filled(struct chain *chain)
{
	struct block *block = block_at(chain, chain->filled);

	check_fence(block, "a capture");
	if (chain->options->copy)
		queue_send_copy(chain, block);
	else
		queue_send_dmabuf(chain, block);
	chain->filled++;
}

static void on_sent(struct chain *chain)
{
	check_fence(block_at(chain, chain->sent), "a transfer to the host");
	chain->sent++;
	if (chain->queued < chain->target)
		queue_capture(chain);
}

static void on_writes_done(struct chain *chain)
{
	struct io_event events[MAX_BLOCKS];
	uint64_t signalled;
	long count;

	if (read(chain->aio_done, &signalled, sizeof(signalled)) < 0)
		die("cannot read the eventfd");
	count = syscall(SYS_io_getevents, chain->aio, 0L, (long)MAX_BLOCKS, events, NULL);
	if (count < 0)
		die("io_getevents failed");
	for (long i = 0; i < count; i++) {
		if (events[i].res != (__s64)chain->options->block_size) {
			errno = events[i].res < 0 ? (int)-events[i].res : EIO;
			die("a write to the endpoint failed");
		}
		on_sent(chain);
	}
}

/*
 * Waits for the oldest block at the IIO buffer and the oldest at the endpoint.
 * A dmabuf under capture holds a write fence: POLLIN when done. One under
 * transfer to the host holds a read fence: POLLOUT when done.
 */
static void run_chain(struct chain *chain)
{
	bool copy = chain->options->copy;

	while (chain->sent < chain->target) {
		struct pollfd capture = { .fd = -1, .events = POLLIN };
		struct pollfd send = { .fd = -1, .events = POLLOUT };
		struct pollfd waits[2];
		int count;

		if (chain->filled < chain->queued)
			capture.fd = block_at(chain, chain->filled)->dmabuf;
		if (copy) {
			send.fd = chain->aio_done;
			send.events = POLLIN;
		} else if (chain->sent < chain->filled) {
			send.fd = block_at(chain, chain->sent)->dmabuf;
		}
		waits[0] = capture;
		waits[1] = send;
		count = poll(waits, 2, STALL_TIMEOUT_MS);
		if (count == 0)
			errno = ETIMEDOUT;
		if (count <= 0)
			die("the stream stalled: %llu blocks queued, %llu filled, %llu sent",
			    (unsigned long long)chain->queued, (unsigned long long)chain->filled,
			    (unsigned long long)chain->sent);
		if (waits[0].revents)
			on_filled(chain);
		if (waits[1].revents) {
			if (copy)
				on_writes_done(chain);
			else
				on_sent(chain);
		}
	}
}

static void usage(void)
{
	fputs("usage: device [--device NAME] [--mode zero-copy|copy] [--block-size BYTES] [--blocks N]\n"
	      "              [--total BYTES] [--heap NAME] [--fence-status] [--udc NAME] [--mount DIRECTORY]\n",
	      stderr);
	exit(2);
}

static struct options parse_options(int argc, char **argv)
{
	enum {
		OPT_DEVICE,
		OPT_MODE,
		OPT_BLOCK_SIZE,
		OPT_BLOCKS,
		OPT_TOTAL,
		OPT_HEAP,
		OPT_FENCE_STATUS,
		OPT_UDC,
		OPT_MOUNT,
	};
	static const struct option known[] = {
		{ "device", required_argument, NULL, OPT_DEVICE },
		{ "mode", required_argument, NULL, OPT_MODE },
		{ "block-size", required_argument, NULL, OPT_BLOCK_SIZE },
		{ "blocks", required_argument, NULL, OPT_BLOCKS },
		{ "total", required_argument, NULL, OPT_TOTAL },
		{ "heap", required_argument, NULL, OPT_HEAP },
		{ "fence-status", no_argument, NULL, OPT_FENCE_STATUS },
		{ "udc", required_argument, NULL, OPT_UDC },
		{ "mount", required_argument, NULL, OPT_MOUNT },
		{ NULL, 0, NULL, 0 },
	};
	struct options options = {
		.device = "iio-sim-adc",
		.heap = "system",
		.block_size = 1 << 20,
		.block_count = 4,
		.total = 256 << 20,
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case OPT_DEVICE:
			options.device = optarg;
			break;
		case OPT_MODE:
			if (strcmp(optarg, "zero-copy") != 0 && strcmp(optarg, "copy") != 0)
				usage();
			options.copy = strcmp(optarg, "copy") == 0;
			break;
		case OPT_BLOCK_SIZE:
			options.block_size = strtoull(optarg, NULL, 0);
			break;
		case OPT_BLOCKS:
			options.block_count = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case OPT_TOTAL:
			options.total = strtoull(optarg, NULL, 0);
			break;
		case OPT_HEAP:
			options.heap = optarg;
			break;
		case OPT_FENCE_STATUS:
			options.check_fences = true;
			break;
		case OPT_UDC:
			options.udc = optarg;
			break;
		case OPT_MOUNT:
			options.mount_point = optarg;
			break;
		default:
			usage();
		}
	}
	if (optind != argc || options.block_size == 0 || options.block_count == 0 ||
	    options.block_count > MAX_BLOCKS || options.total < options.block_size)
		usage();
	return options;
}

static struct chain chain;

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
	struct options options = parse_options(argc, argv);
	double started, seconds, cpu, gigabytes;
	uint64_t bytes;
	int device_number;

	chain.options = &options;
	chain.target = options.total / options.block_size;
	bytes = chain.target * options.block_size;
	device_number = find_device(&chain);
	set_device_attribute(&chain, "buffer0/enable", "0");
	enable_channels(&chain);

	chain.gadget.ep0 = -1;
	chain.gadget.bulk_in = -1;
	atexit(close_chain);
	gadget_open(&chain.gadget, options.mount_point, options.udc);
	gadget_wait_enabled(&chain.gadget, HOST_TIMEOUT_MS);
	chain.buffer = open_buffer(device_number);
	create_blocks(&chain);

	started = seconds_now();
	cpu = cpu_seconds();
	while (chain.queued < options.block_count && chain.queued < chain.target)
		queue_capture(&chain);
	set_device_attribute(&chain, "buffer0/enable", "1");
	run_chain(&chain);
	seconds = seconds_now() - started;
	cpu = cpu_seconds() - cpu;

	gigabytes = (double)bytes * 1e-9;
	printf("{\"mode\":\"%s\",\"blockSize\":%llu,\"blocks\":%u,\"fenceStatus\":%s,\"bytes\":%llu,"
	       "\"seconds\":%.6f,\"mbPerSecond\":%.1f,\"cpuSeconds\":%.6f,\"cpuSecondsPerGb\":%.6f,"
	       "\"cpuMicrosecondsPerBlock\":%.3f}\n",
	       options.copy ? "copy" : "zero-copy", (unsigned long long)options.block_size, options.block_count,
	       options.check_fences ? "true" : "false", (unsigned long long)bytes, seconds,
	       gigabytes * 1e3 / seconds, cpu, cpu / gigabytes, cpu * 1e6 / (double)chain.target);
	return 0;
}
