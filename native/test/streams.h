#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include "../src/block.h"
#include "../src/link.h"
#include "../src/poller.h"
#include "../src/socket_link.h"
#include "fake_kernel.h"

namespace fake {

/** The client's end of a link's socket, and the link. */
struct Pair {
  /** `bufferBytes`: what the kernel may hold in each direction, about; 0 is its default. */
  explicit Pair(int bufferBytes = 0);
  ~Pair();

  /** One turn of the data plane's loop. */
  void turn();
  /** What the client sends; all of it must fit into the kernel's buffer. */
  void send(const std::string& bytes);
  /** Whatever has arrived at the client. */
  std::string receive();
  void hangUp() { client.reset(); }
  void halfClose();

  iio_bridge::UniqueFd client;
  std::unique_ptr<iio_bridge::SocketLink> link;

 private:
  iio_bridge::Poller poller_;
};

/** A frame's header as it is on the wire. */
std::string frame(uint16_t clientId, uint8_t op, uint8_t dev, int32_t code);
std::string text(const std::vector<uint8_t>& bytes);
std::vector<uint8_t> bytes(const std::string& text);

/** A block in memory of its own, full of `fill`, to be sent whole. */
iio_bridge::BlockPart memoryBlock(size_t size, char fill);
/** The announcement of a block, as sendBlock() takes it. */
std::vector<std::vector<uint8_t>> heads(uint16_t clientId, int32_t code);

}  // namespace fake
