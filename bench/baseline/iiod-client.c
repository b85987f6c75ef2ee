// SPDX-License-Identifier: MIT
/*
 * Reads a stream from an iiod server over USB, or plays one, with as little
 * host software as the binary protocol allows: what the server can do when
 * the client costs next to nothing. Uses buffer 0 of the device with the
 * given index. With --metadata, takes from iio-bridge what it knows of each
 * block, and does not count samples as missing that it reports as lost; with
 * --ring-ms, lets it capture ahead.
 *
 * Prints one JSON object when `--total` bytes have moved.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common.h"
#include "stream.h"
#include "usb.h"

#define MAX_PIECES 64
#define CONTROL_TIMEOUT_MS 60000

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
	/* Of iio-bridge: docs/EXTENSIONS.md. */
	STREAM_OPTIONS = 0xe0,
	BLOCK_ANSWER = 0xe2,
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

/* Follows the frame of a BLOCK_ANSWER. */
struct block_record {
	uint64_t sequence;
	uint64_t captured_at;
	uint64_t lost_sets;
	uint64_t gap;
	uint32_t epoch;
	uint32_t flags;
};
_Static_assert(sizeof(struct block_record) == 40, "size on the wire");

struct client;

/* A block, with the transfers of its request, its samples and the answer. */
struct block {
	struct client *client;
	unsigned int index;
	struct block_request request_data;
	struct libusb_transfer *request;
	struct libusb_transfer *answer;
	struct libusb_transfer *pieces[MAX_PIECES];
	unsigned int piece_count;
	uint64_t lost_sets; /* just before it, by the server's report */
};

struct client {
	struct transfers transfers;
	struct stream stream;
	uint64_t device_index;
	uint64_t channel_mask;
	bool metadata;
	uint64_t ring_ms;
	unsigned char bulk_in;
	unsigned char bulk_out;
	struct block blocks[STREAM_MAX_BLOCKS];
	uint64_t requested;
};

static struct frame make_frame(const struct client *client, unsigned int client_id, enum opcode opcode, uint32_t code)
{
	return (struct frame){
		.client_id = htole16((uint16_t)client_id),
		.opcode = (uint8_t)opcode,
		.device = (uint8_t)client->device_index,
		.code = (int32_t)htole32(code),
	};
}

static struct frame block_frame(const struct block *block, enum opcode opcode)
{
	return make_frame(block->client, block->index + 1, opcode, (uint32_t)block->index << 16);
}

static void control(struct client *client, uint8_t request, uint16_t value, const char *what)
{
	int result = libusb_control_transfer(client->transfers.device, REQUEST_TYPE, request, value, 0, NULL, 0,
					     CONTROL_TIMEOUT_MS);

	if (result < 0)
		fail(what, result);
}

/* A pipe is two endpoints that follow each other in the descriptors, IN first. */
static void find_endpoints(struct client *client)
{
	struct libusb_config_descriptor *configuration;
	const struct libusb_interface_descriptor *interface;
	int error = libusb_get_active_config_descriptor(libusb_get_device(client->transfers.device), &configuration);

	if (error)
		fail("cannot read the descriptors", error);
	interface = &configuration->interface[0].altsetting[0];
	if (interface->bNumEndpoints < 2 * (BUFFER_PIPE + 1))
		fail("the gadget has no pipe for a buffer", LIBUSB_ERROR_NOT_FOUND);
	client->bulk_in = interface->endpoint[2 * BUFFER_PIPE].bEndpointAddress;
	client->bulk_out = interface->endpoint[2 * BUFFER_PIPE + 1].bEndpointAddress;
	libusb_free_config_descriptor(configuration);
}

static void send_now(struct client *client, const void *data, int length, const char *what)
{
	int error = libusb_bulk_transfer(client->transfers.device, client->bulk_out, (unsigned char *)data, length,
					 NULL, CONTROL_TIMEOUT_MS);

	if (error)
		fail(what, error);
}

static int receive_now(struct client *client, void *data, int size, const char *what)
{
	unsigned char packet[MAX_PACKET_BYTES];
	int length = 0;
	int error = libusb_bulk_transfer(client->transfers.device, client->bulk_in, packet, sizeof(packet), &length,
					 CONTROL_TIMEOUT_MS);

	if (error)
		fail(what, error);
	if (length > size)
		fail(what, LIBUSB_ERROR_OVERFLOW);
	memcpy(data, packet, (size_t)length);
	return length;
}

/* One request, with what belongs to it, and its answer. */
static void request_now(struct client *client, struct frame frame, const void *data, int length, const char *what)
{
	struct frame answer = {0};
	int32_t code;

	send_now(client, &frame, sizeof(frame), what);
	if (length > 0)
		send_now(client, data, length, what);
	if (receive_now(client, &answer, sizeof(answer), what) != (int)sizeof(answer))
		fail(what, LIBUSB_ERROR_IO);
	code = (int32_t)le32toh((uint32_t)answer.code);
	if (code < 0) {
		errno = -code;
		die("%s: the server answers %d", what, code);
	}
}

static void start_session(struct client *client)
{
	static const char handshake[] = "BINARY\r\n";
	char line[16] = "";

	control(client, RESET_PIPES, 0, "cannot reset the pipes");
	control(client, OPEN_PIPE, BUFFER_PIPE, "cannot open a pipe");
	send_now(client, handshake, (int)strlen(handshake), "cannot ask for the binary protocol");
	receive_now(client, line, sizeof(line) - 1, "no answer to the binary protocol");
	if (line[0] != '0')
		fail("the server has no binary protocol", LIBUSB_ERROR_NOT_SUPPORTED);
}

static void choose_options(struct client *client)
{
	struct {
		uint32_t length;
		char text[64];
	} __attribute__((packed)) json;
	int length;

	if (client->ring_ms)
		length = snprintf(json.text, sizeof(json.text), "{\"metadata\":true,\"ring\":{\"ms\":%llu}}",
				  (unsigned long long)client->ring_ms);
	else
		length = snprintf(json.text, sizeof(json.text), "{\"metadata\":true}");
	json.length = htole32((uint32_t)length);
	request_now(client, make_frame(client, 0, STREAM_OPTIONS, 0), &json, (int)sizeof(json.length) + length,
		    "cannot choose the stream's options");
}

/*
 * Blocks are asked for after ENABLE has been answered: from then on, nothing
 * but blocks in their order comes through the pipe.
 */
static void start_buffer(struct client *client)
{
	uint32_t mask = htole32((uint32_t)client->channel_mask);
	uint64_t size = htole64(client->stream.options.block_size);

	if (client->metadata)
		choose_options(client);
	request_now(client, make_frame(client, 0, OPEN_BUFFER, 0), &mask, sizeof(mask), "cannot open the buffer");
	receive_now(client, &mask, sizeof(mask), "no channel mask in the answer");
	for (unsigned int i = 0; i < client->stream.options.blocks; i++) {
		client->blocks[i].client = client;
		client->blocks[i].index = i;
		request_now(client, block_frame(&client->blocks[i], CREATE_BLOCK), &size, sizeof(size),
			    "cannot create a block");
	}
	request_now(client, make_frame(client, 0, ENABLE_BUFFER, 0), NULL, 0, "cannot enable the buffer");
}

static void submit_pieces(struct block *block)
{
	for (unsigned int i = 0; i < block->piece_count; i++)
		submit(&block->client->transfers, block->pieces[i]);
}

static void request_block(struct block *block)
{
	struct client *client = block->client;
	struct transfers *transfers = &client->transfers;

	if (client->requested >= client->stream.options.total)
		return;
	client->requested += client->stream.options.block_size;
	submit(transfers, block->answer);
	if (client->stream.options.playback) {
		for (unsigned int i = 0; i < block->piece_count; i++)
			stream_fill(&client->stream, block->pieces[i]->buffer, (uint64_t)block->pieces[i]->length);
		submit(transfers, block->request);
		submit_pieces(block);
	} else {
		submit_pieces(block);
		submit(transfers, block->request);
	}
}

static void LIBUSB_CALL on_request(struct libusb_transfer *transfer)
{
	struct block *block = transfer->user_data;

	completed(&block->client->transfers, transfer);
}

static void LIBUSB_CALL on_answer(struct libusb_transfer *transfer)
{
	struct block *block = transfer->user_data;
	struct client *client = block->client;
	struct {
		struct frame frame;
		struct block_record record;
	} __attribute__((packed)) answer = {0};
	int expected_length = client->metadata ? (int)sizeof(answer) : (int)sizeof(answer.frame);
	int32_t code;

	completed(&client->transfers, transfer);
	memcpy(&answer, transfer->buffer, (size_t)expected_length);
	code = (int32_t)le32toh((uint32_t)answer.frame.code);
	errno = 0;
	if (transfer->actual_length != expected_length || le16toh(answer.frame.client_id) != block->index + 1 ||
	    answer.frame.opcode != (client->metadata ? BLOCK_ANSWER : 0) || code < 0)
		die("not the answer for block %u: %d bytes, client %u, code %d", block->index, transfer->actual_length,
		    le16toh(answer.frame.client_id), code);
	block->lost_sets = le64toh(answer.record.lost_sets);
	if (client->stream.options.playback) {
		stream_sent(&client->stream, client->stream.options.block_size);
		request_block(block);
	} else if ((uint64_t)code != client->stream.options.block_size) {
		die("block %u has %d bytes", block->index, code);
	}
}

static void LIBUSB_CALL on_piece(struct libusb_transfer *transfer)
{
	struct block *block = transfer->user_data;
	struct client *client = block->client;

	completed(&client->transfers, transfer);
	if (client->stream.options.playback)
		return;
	if (transfer == block->pieces[0])
		stream_lost(&client->stream, block->lost_sets);
	stream_arrived(&client->stream, transfer->buffer, (uint64_t)transfer->actual_length);
	if (transfer == block->pieces[block->piece_count - 1])
		request_block(block);
}

static void prepare_block(struct block *block)
{
	struct client *client = block->client;
	struct transfers *transfers = &client->transfers;
	uint64_t size = client->stream.options.block_size;
	uint64_t piece_size = transfer_size(size);
	unsigned char samples = client->stream.options.playback ? client->bulk_out : client->bulk_in;

	errno = 0;
	if (size / piece_size > MAX_PIECES)
		die("blocks of more than %llu bytes", (unsigned long long)(MAX_PIECES * piece_size));
	block->request_data.frame = block_frame(block, TRANSFER_BLOCK);
	block->request_data.bytes = htole64(size);
	block->request = make_transfer(transfers, client->bulk_out, (unsigned char *)&block->request_data,
				       sizeof(block->request_data), on_request, block);
	block->answer = make_transfer(transfers, client->bulk_in, allocate_buffer(MAX_PACKET_BYTES),
				      MAX_PACKET_BYTES, on_answer, block);
	for (uint64_t offset = 0; offset < size; offset += piece_size)
		block->pieces[block->piece_count++] = make_transfer(transfers, samples, allocate_buffer(piece_size),
								    piece_size, on_piece, block);
}

int main(int argc, char **argv)
{
	static struct client client = { .channel_mask = 0xf };
	struct stream_options options = STREAM_DEFAULTS;
	const struct option_spec specs[] = {
		{ "device-index", OPTION_NUMBER, &client.device_index },
		{ "channel-mask", OPTION_NUMBER, &client.channel_mask },
		{ "metadata", OPTION_FLAG, &client.metadata },
		{ "ring-ms", OPTION_NUMBER, &client.ring_ms },
		STREAM_OPTION_SPECS(&options),
	};

	parse_options(argc, argv, specs, sizeof(specs) / sizeof(specs[0]));
	client.transfers.device = open_gadget(&client.transfers.usb);
	find_endpoints(&client);
	client.stream.options = options;
	start_session(&client);
	start_buffer(&client);
	for (unsigned int i = 0; i < options.blocks; i++)
		prepare_block(&client.blocks[i]);
	stream_begin(&client.stream, &options);
	client.stream.may_lose |= client.metadata;
	for (unsigned int i = 0; i < options.blocks; i++)
		request_block(&client.blocks[i]);
	run_transfers(&client.transfers);
	control(&client, CLOSE_PIPE, BUFFER_PIPE, "cannot close the pipe");
	return stream_end(&client.stream);
}
