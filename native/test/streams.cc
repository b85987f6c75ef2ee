#include "streams.h"

#include <cstring>

namespace fake {

using iio_bridge::Block;
using iio_bridge::BlockPart;
using iio_bridge::Clock;
using iio_bridge::FrameHeader;
using iio_bridge::SocketLink;
using iio_bridge::UniqueFd;

Pair::Pair(int bufferBytes) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) die("no socket");
  for (const int end : ends) {
    if (bufferBytes > 0) ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &bufferBytes, sizeof bufferBytes);
  }
  client.reset(ends[0]);
  link = std::make_unique<SocketLink>(UniqueFd(ends[1]));
}

Pair::~Pair() {
  link->close(0);
  link->finishClosing();
}

void Pair::turn() {
  if (link->closing()) {
    link->finishClosing();
    return;
  }
  poller_.clear();
  link->proceed();
  link->collect(poller_);
  Clock::nextTurn();
  poller_.wait(0);
  if (link->nextDeadline() <= Clock::now()) link->expire();
}

void Pair::send(const std::string& bytes) {
  if (::send(client.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
    die("the socket did not take what the client sends");
  }
}

std::string Pair::receive() {
  std::string all;
  char piece[4096];
  ssize_t count;
  while ((count = ::recv(client.get(), piece, sizeof piece, 0)) > 0) all.append(piece, static_cast<size_t>(count));
  return all;
}

void Pair::halfClose() { ::shutdown(client.get(), SHUT_WR); }

std::string frame(uint16_t clientId, uint8_t op, uint8_t dev, int32_t code) {
  const FrameHeader header{clientId, op, dev, code};
  return {reinterpret_cast<const char*>(&header), sizeof header};
}

std::string text(const std::vector<uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

std::vector<uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

BlockPart memoryBlock(size_t size, char fill) {
  auto block = std::make_shared<Block>();
  block->size = size;
  if (block->map() != 0) die("no memory");
  std::memset(block->memory.data(), fill, size);
  return {block, 0, size, false};
}

std::vector<std::vector<uint8_t>> heads(uint16_t clientId, int32_t code) { return {bytes(frame(clientId, 0, 0, code))}; }

}  // namespace fake
