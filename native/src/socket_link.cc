#include "socket_link.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

constexpr size_t kReceiveBytes = 64 * 1024;
constexpr size_t kPiecesAtOnce = 64;

}  // namespace

void SocketLink::send(std::vector<uint8_t> bytes) {
  if (closing() || bytes.empty()) return;
  unsentBytes_ += bytes.size();
  items_.emplace_back().bytes = std::move(bytes);
  flush();
}

void SocketLink::sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent) {
  if (closing()) return;
  Item& item = items_.emplace_back();
  for (const auto& head : heads) item.bytes.insert(item.bytes.end(), head.begin(), head.end());
  item.part = std::move(part);
  item.sent = std::move(sent);
  flush();
}

/**
 * The client counts on every byte that a header has announced, so a block that has begun to leave goes on, out of memory
 * that only this link knows any more: at most one block per link. One that has not begun is forgotten with its header.
 */
bool SocketLink::abandon(const Block& block) {
  bool isFree = true;
  for (auto item = items_.begin(); item != items_.end();) {
    if (item->part.block.get() != &block) {
      ++item;
      continue;
    }
    item->sent = nullptr;
    const bool hasBegun = item->taken > 0;
    isFree = isFree && !hasBegun;
    item = hasBegun ? std::next(item) : items_.erase(item);
  }
  return isFree;
}

void SocketLink::collect(Poller& poller) {
  const short events = static_cast<short>((wantsMore() ? POLLIN : 0) | (items_.empty() ? 0 : POLLOUT));
  if (events != 0) poller.add(socket_.get(), events, *this);
}

void SocketLink::onReady(int) {
  if (!closing() && wantsMore()) receive();
  if (!closing()) flush();
}

void SocketLink::receive() {
  std::array<uint8_t, kReceiveBytes> piece;
  const ssize_t count = ::recv(socket_.get(), piece.data(), piece.size(), MSG_DONTWAIT);
  if (count > 0) {
    received(piece.data(), static_cast<size_t>(count));
  } else if (count == 0) {
    clientDone();
  } else if (errno != EAGAIN && errno != EINTR) {
    close(-errno);
  }
}

void SocketLink::flush() {
  // What hears that a block was sent may send: it only queues.
  if (flushing_) return;
  flushing_ = true;
  while (!closing() && !items_.empty() && sendSome()) {
  }
  flushing_ = false;
}

bool SocketLink::sendSome() {
  std::array<iovec, kPiecesAtOnce> pieces;
  size_t count = 0;
  for (auto item = items_.begin(); item != items_.end() && count + 2 <= pieces.size(); ++item) {
    const size_t head = item->bytes.size();
    if (item->taken < head) pieces[count++] = {item->bytes.data() + item->taken, head - item->taken};
    const BlockPart& part = item->part;
    if (!part.block) continue;
    if (!item->access) item->access = CpuAccess(*part.block, uapi::kSyncRead);
    const size_t begin = item->taken > head ? item->taken - head : 0;
    pieces[count++] = {part.block->memory.data() + part.offset + begin, part.bytes - begin};
  }
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = count;
  const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) close(-errno);
    return false;
  }
  taken(static_cast<size_t>(sent));
  return true;
}

void SocketLink::taken(size_t bytes) {
  while (bytes > 0) {
    Item& first = items_.front();
    const size_t step = std::min(bytes, first.length() - first.taken);
    first.taken += step;
    bytes -= step;
    if (!first.part.block) unsentBytes_ -= step;
    if (first.taken < first.length()) return;
    const auto sent = std::move(first.sent);
    items_.pop_front();
    if (sent) sent(0);
  }
}

bool SocketLink::closeFiles() {
  items_.clear();
  socket_.reset();
  return true;
}

}  // namespace iio_bridge
