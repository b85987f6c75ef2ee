// SPDX-License-Identifier: MIT
/*
 * Takes a captured stream from standard input: what a program that writes
 * samples to a pipe, such as iio_readdev, delivers.
 *
 * Prints one JSON object when `--total` bytes have arrived.
 */
#include <stdlib.h>
#include <unistd.h>

#include "common.h"
#include "stream.h"

int main(int argc, char **argv)
{
	static struct stream stream;
	struct stream_options options = STREAM_DEFAULTS;
	const struct option_spec specs[] = { STREAM_OPTION_SPECS(&options) };
	unsigned char *block;

	parse_options(argc, argv, specs, sizeof(specs) / sizeof(specs[0]));
	stream_begin(&stream, &options);
	block = malloc(options.block_size);
	if (!block)
		die("no memory for a block");
	while (stream.bytes < options.total) {
		uint64_t filled = 0;

		while (filled < options.block_size) {
			ssize_t length = read(STDIN_FILENO, block + filled, options.block_size - filled);

			if (length < 0)
				die("cannot read standard input");
			if (length == 0)
				return stream_end(&stream);
			filled += (uint64_t)length;
		}
		stream_arrived(&stream, block, options.block_size);
	}
	free(block);
	return stream_end(&stream);
}
