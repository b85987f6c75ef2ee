#pragma once

// The system calls of the product go to the fake kernel where it knows the descriptor. The linker renames them
// (--wrap, see Makefile), so neither the product nor any library knows.

#include <poll.h>

#include <cstddef>

namespace fake::real {

long read(int fd, void* data, size_t bytes);
long write(int fd, const void* data, size_t bytes);
int close(int fd);
int poll(pollfd* fds, nfds_t count, int timeoutMs);

}  // namespace fake::real
