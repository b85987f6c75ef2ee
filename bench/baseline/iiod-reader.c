// SPDX-License-Identifier: MIT
/*
 * Reads a stream from an iiod server over USB, with as little host software
 * as the binary protocol allows: what the server can do when the client
 * costs next to nothing. Opens buffer 0 of the device with the given index,
 * enables its first 32 channels at most, and checks the counter pattern. With
 * the server's pid, also says what CPU time it took.
 *
 * Prints one JSON object when `--total` bytes have arrived.
 */
#include <endian.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host.h"

#define MAX_BLOCKS 64
#define MAX_CHUNKS 64
#define CHUNK_BYTES (256 << 10)
#define CONTROL_TIMEOUT_MS 5000

/* Vendor requests to the interface: iiod's USB transport. */
#define REQUEST_TYPE (LIBUSB_ENDPOINT_OUT | LIBUSB_REQUEST_TYPE_VENDOR | LIBUSB_RECIPIENT_INTERFACE)
#define RESET_PIPES 0
#define OPEN_PIPE 1
#define CLOSE_PIPE 2
/* Pipe 0 is the main link; every open buffer has one of its own. */
#define BUFFER_PIPE 1

/* Opcodes of libiio's main branch since June 2026. */
enum opcode {
	OPEN_BUFFER = 17,
	ENABLE_BUFFER = 19,
	CREATE_BLOCK = 21,
	TRANSFER_BLOCK = 23,
};

struct frame {
	uint16_t client_id;
	uint8_t opcode;
	uint8_t device;
	int32_t code;
};
_Static_assert(sizeof(struct frame) == 8, "size on the wire");

/* A frame and the size that belongs to it: iio-bridge takes both in one transfer. */
struct block_request {
	struct frame frame;
	uint64_t bytes;
};
_Static_assert(sizeof(struct block_request) == 16, "size on the wire");

struct options {
	uint8_t device_index;
	uint32_t channel_mask;
	uint64_t block_size;
	unsigned int blocks;
	uint64_t total;
	enum verification verification;
	pid_t server; /* 0: not known */
};

struct reader;

/* A block, with the transfers that ask for it and those that take the answer. */
struct block {
	struct reader *reader;
	unsigned int index;
	struct libusb_transfer *request;
	struct libusb_transfer *header;
	struct libusb_transfer *chunks[MAX_CHUNKS];
	unsigned int chunk_count;
	unsigned char *data;
};

struct reader {
	struct options options;
	libusb_context *usb;
	libusb_device_handle *device;
	unsigned char bulk_in;
	unsigned char bulk_out;
	struct block blocks[MAX_BLOCKS];
	struct verifier verifier;
	struct meter meter;
	unsigned int in_flight;
	uint64_t requested;
	bool failed;
};

/* CPU time that the server has used, in seconds; 0 if it is not known. */
static double server_cpu_seconds(pid_t server)
{
	struct timespec time = {0};
	clockid_t clock;

	if (server != 0 && (clock_getcpuclockid(server, &clock) || clock_gettime(clock, &time)))
		fail("no CPU clock of the server", LIBUSB_ERROR_NOT_FOUND);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static struct frame make_frame(const struct reader *reader, uint16_t client_id, enum opcode opcode, int32_t code)
{
	return (struct frame){
		.client_id = htole16(client_id),
		.opcode = (uint8_t)opcode,
		.device = reader->options.device_index,
		.code = (int32_t)htole32((uint32_t)code),
	};
}

static int32_t block_code(unsigned int block)
{
	return (int32_t)(block << 16);
}

static void control(struct reader *reader, uint8_t request, uint16_t value, const char *what)
{
	int result = libusb_control_transfer(reader->device, REQUEST_TYPE, request, value, 0, NULL, 0,
					     CONTROL_TIMEOUT_MS);

	if (result < 0)
		fail(what, result);
}

/* A pipe is two endpoints that follow each other in the descriptors, IN first. */
static void find_endpoints(struct reader *reader)
{
	struct libusb_config_descriptor *configuration;
	const struct libusb_interface_descriptor *interface;
	int error = libusb_get_active_config_descriptor(libusb_get_device(reader->device), &configuration);

	if (error)
		fail("cannot read the descriptors", error);
	interface = &configuration->interface[0].altsetting[0];
	if (interface->bNumEndpoints < 2 * (BUFFER_PIPE + 1))
		fail("the gadget has no pipe for a buffer", LIBUSB_ERROR_NOT_FOUND);
	reader->bulk_in = interface->endpoint[2 * BUFFER_PIPE].bEndpointAddress;
	reader->bulk_out = interface->endpoint[2 * BUFFER_PIPE + 1].bEndpointAddress;
	libusb_free_config_descriptor(configuration);
}

static void send_now(struct reader *reader, const void *data, int length, const char *what)
{
	int error = libusb_bulk_transfer(reader->device, reader->bulk_out, (unsigned char *)data, length, NULL,
					 CONTROL_TIMEOUT_MS);

	if (error)
		fail(what, error);
}

static int receive_now(struct reader *reader, void *data, int size, const char *what)
{
	unsigned char packet[MAX_PACKET_BYTES];
	int length = 0;
	int error = libusb_bulk_transfer(reader->device, reader->bulk_in, packet, sizeof(packet), &length,
					 CONTROL_TIMEOUT_MS);

	if (error)
		fail(what, error);
	if (length > size)
		fail(what, LIBUSB_ERROR_OVERFLOW);
	memcpy(data, packet, (size_t)length);
	return length;
}

static int32_t receive_code(struct reader *reader, const char *what)
{
	struct frame answer = {0};
	int32_t code;

	if (receive_now(reader, &answer, sizeof(answer), what) != (int)sizeof(answer))
		fail(what, LIBUSB_ERROR_IO);
	code = (int32_t)le32toh((uint32_t)answer.code);
	if (code < 0) {
		fprintf(stderr, "reader: %s: the server answers %d\n", what, code);
		exit(1);
	}
	return code;
}

static void start_session(struct reader *reader)
{
	static const char handshake[] = "BINARY\r\n";
	char line[16] = "";

	control(reader, RESET_PIPES, 0, "cannot reset the pipes");
	control(reader, OPEN_PIPE, BUFFER_PIPE, "cannot open a pipe");
	send_now(reader, handshake, (int)strlen(handshake), "cannot ask for the binary protocol");
	receive_now(reader, line, sizeof(line) - 1, "no answer to the binary protocol");
	if (line[0] != '0')
		fail("the server has no binary protocol", LIBUSB_ERROR_NOT_SUPPORTED);
}

/*
 * Blocks are asked for after ENABLE has been answered: from then on, nothing
 * but blocks in their order comes through the pipe.
 */
static void start_buffer(struct reader *reader)
{
	struct frame open = make_frame(reader, 0, OPEN_BUFFER, 0);
	struct frame enable = make_frame(reader, 0, ENABLE_BUFFER, 0);
	uint32_t mask = htole32(reader->options.channel_mask);

	send_now(reader, &open, sizeof(open), "cannot open the buffer");
	send_now(reader, &mask, sizeof(mask), "cannot send the channel mask");
	receive_code(reader, "OPEN_BUFFER");
	receive_now(reader, &mask, sizeof(mask), "no channel mask in the answer");
	for (unsigned int i = 0; i < reader->options.blocks; i++) {
		struct frame create = make_frame(reader, (uint16_t)(i + 1), CREATE_BLOCK, block_code(i));
		uint64_t size = htole64(reader->options.block_size);

		send_now(reader, &create, sizeof(create), "cannot create a block");
		send_now(reader, &size, sizeof(size), "cannot send a block's size");
		receive_code(reader, "CREATE_BLOCK");
	}
	send_now(reader, &enable, sizeof(enable), "cannot enable the buffer");
	receive_code(reader, "ENABLE_BUFFER");
}

static void submit(struct reader *reader, struct libusb_transfer *transfer)
{
	int error = libusb_submit_transfer(transfer);

	if (error)
		fail("cannot submit a transfer", error);
	reader->in_flight++;
}

static void request_block(struct block *block)
{
	struct reader *reader = block->reader;

	if (reader->requested >= reader->options.total || reader->failed)
		return;
	reader->requested += reader->options.block_size;
	submit(reader, block->header);
	for (unsigned int i = 0; i < block->chunk_count; i++)
		submit(reader, block->chunks[i]);
	submit(reader, block->request);
}

static bool is_complete(struct reader *reader, const struct libusb_transfer *transfer)
{
	bool complete = transfer->status == LIBUSB_TRANSFER_COMPLETED;

	reader->in_flight--;
	if (!complete && !reader->failed)
		fprintf(stderr, "reader: a transfer ended with status %d after %llu bytes\n", transfer->status,
			(unsigned long long)reader->meter.bytes);
	reader->failed = reader->failed || !complete;
	return complete;
}

static void LIBUSB_CALL on_request(struct libusb_transfer *transfer)
{
	struct block *block = transfer->user_data;

	is_complete(block->reader, transfer);
}

static void LIBUSB_CALL on_header(struct libusb_transfer *transfer)
{
	struct block *block = transfer->user_data;
	struct reader *reader = block->reader;
	struct frame answer;

	if (!is_complete(reader, transfer))
		return;
	memcpy(&answer, transfer->buffer, sizeof(answer));
	if (transfer->actual_length != (int)sizeof(answer) || le16toh(answer.client_id) != block->index + 1 ||
	    le32toh((uint32_t)answer.code) != reader->options.block_size) {
		fprintf(stderr, "reader: not the answer for block %u: %d bytes, client %u, code %d\n", block->index,
			transfer->actual_length, le16toh(answer.client_id), (int32_t)le32toh((uint32_t)answer.code));
		exit(1);
	}
}

static void LIBUSB_CALL on_chunk(struct libusb_transfer *transfer)
{
	struct block *block = transfer->user_data;
	struct reader *reader = block->reader;

	if (!is_complete(reader, transfer))
		return;
	meter_arrival(&reader->meter, (uint64_t)transfer->actual_length);
	verify(&reader->verifier, transfer->buffer, (uint64_t)transfer->actual_length);
	if (transfer == block->chunks[block->chunk_count - 1])
		request_block(block);
}

static void prepare_block(struct reader *reader, unsigned int index)
{
	struct block *block = &reader->blocks[index];
	struct block_request *request = calloc(1, sizeof(*request));
	uint64_t size = reader->options.block_size;

	if (!request)
		fail("cannot allocate a request", LIBUSB_ERROR_NO_MEM);
	request->frame = make_frame(reader, (uint16_t)(index + 1), TRANSFER_BLOCK, block_code(index));
	request->bytes = htole64(size);
	block->reader = reader;
	block->index = index;
	block->data = allocate_buffer(reader->device, size, false);
	block->request = allocate_transfer();
	libusb_fill_bulk_transfer(block->request, reader->device, reader->bulk_out, (unsigned char *)request,
				  sizeof(*request), on_request, block, TRANSFER_TIMEOUT_MS);
	block->header = allocate_transfer();
	libusb_fill_bulk_transfer(block->header, reader->device, reader->bulk_in,
				  allocate_buffer(reader->device, MAX_PACKET_BYTES, false), MAX_PACKET_BYTES,
				  on_header, block, TRANSFER_TIMEOUT_MS);
	for (uint64_t offset = 0; offset < size; offset += CHUNK_BYTES) {
		uint64_t length = size - offset < CHUNK_BYTES ? size - offset : CHUNK_BYTES;
		struct libusb_transfer *chunk = allocate_transfer();

		libusb_fill_bulk_transfer(chunk, reader->device, reader->bulk_in, block->data + offset, (int)length,
					  on_chunk, block, TRANSFER_TIMEOUT_MS);
		block->chunks[block->chunk_count++] = chunk;
	}
}

static void run(struct reader *reader)
{
	for (unsigned int i = 0; i < reader->options.blocks; i++)
		prepare_block(reader, i);
	for (unsigned int i = 0; i < reader->options.blocks; i++)
		request_block(&reader->blocks[i]);
	while (reader->in_flight > 0) {
		int error = libusb_handle_events(reader->usb);

		if (error)
			fail("cannot handle USB events", error);
	}
}

static void usage(void)
{
	fputs("usage: iiod-reader --device-index N [--channel-mask MASK] [--block-size BYTES] [--blocks N]\n"
	      "                   [--total BYTES] [--verify none|sparse|full] [--server-pid PID]\n"
	      "--total is a multiple of --block-size, which is a multiple of 1024\n",
	      stderr);
	exit(2);
}

static struct options parse_options(int argc, char **argv)
{
	enum { OPT_DEVICE_INDEX, OPT_CHANNEL_MASK, OPT_BLOCK_SIZE, OPT_BLOCKS, OPT_TOTAL, OPT_VERIFY, OPT_SERVER_PID };
	static const struct option known[] = {
		{ "device-index", required_argument, NULL, OPT_DEVICE_INDEX },
		{ "channel-mask", required_argument, NULL, OPT_CHANNEL_MASK },
		{ "block-size", required_argument, NULL, OPT_BLOCK_SIZE },
		{ "blocks", required_argument, NULL, OPT_BLOCKS },
		{ "total", required_argument, NULL, OPT_TOTAL },
		{ "verify", required_argument, NULL, OPT_VERIFY },
		{ "server-pid", required_argument, NULL, OPT_SERVER_PID },
		{ NULL, 0, NULL, 0 },
	};
	struct options options = {
		.channel_mask = 0xf,
		.block_size = 1 << 20,
		.blocks = 4,
		.total = 256 << 20,
		.verification = VERIFY_FULL,
	};
	bool has_device = false;
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case OPT_DEVICE_INDEX:
			options.device_index = (uint8_t)strtoul(optarg, NULL, 0);
			has_device = true;
			break;
		case OPT_CHANNEL_MASK:
			options.channel_mask = (uint32_t)strtoul(optarg, NULL, 0);
			break;
		case OPT_BLOCK_SIZE:
			options.block_size = strtoull(optarg, NULL, 0);
			break;
		case OPT_BLOCKS:
			options.blocks = (unsigned int)strtoul(optarg, NULL, 0);
			break;
		case OPT_TOTAL:
			options.total = strtoull(optarg, NULL, 0);
			break;
		case OPT_VERIFY:
			if (!parse_verification(optarg, &options.verification))
				usage();
			break;
		case OPT_SERVER_PID:
			options.server = (pid_t)strtol(optarg, NULL, 10);
			break;
		default:
			usage();
		}
	}
	if (optind != argc || !has_device || options.block_size == 0 || options.block_size % MAX_PACKET_BYTES != 0 ||
	    options.block_size > (uint64_t)MAX_CHUNKS * CHUNK_BYTES || options.blocks == 0 ||
	    options.blocks > MAX_BLOCKS || options.total == 0 || options.total % options.block_size != 0)
		usage();
	return options;
}

int main(int argc, char **argv)
{
	static struct reader reader;
	double cpu, server_cpu;

	reader.options = parse_options(argc, argv);
	reader.verifier.verification = reader.options.verification;
	reader.device = open_gadget(&reader.usb);
	find_endpoints(&reader);
	start_session(&reader);
	start_buffer(&reader);
	cpu = cpu_seconds();
	server_cpu = server_cpu_seconds(reader.options.server);
	run(&reader);
	server_cpu = server_cpu_seconds(reader.options.server) - server_cpu;
	cpu = cpu_seconds() - cpu;
	control(&reader, CLOSE_PIPE, BUFFER_PIPE, "cannot close the pipe");
	print_result(&reader.meter, &reader.verifier, cpu, server_cpu);
	return reader.failed || reader.verifier.mismatches > 0 || reader.meter.bytes != reader.options.total;
}
