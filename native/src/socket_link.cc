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

// A header and the length of what follows.
constexpr size_t kRequestBytes = 16;

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
  // The end of what the client sends does not show to one who does not read up to it.
  const short input = wantsMore() ? POLLIN : closing() || clientLeft() ? 0 : POLLRDHUP;
  const short events = static_cast<short>(input | (items_.empty() ? 0 : POLLOUT));
  if (events != 0) poller.add(socket_.get(), events, *this);
}

void SocketLink::onReady(int) {
  if (!closing()) {
    if (wantsMore()) {
      receive();
    } else if (!clientLeft() && hasHungUp()) {
      clientLeaves();
    }
  }
  if (!closing()) flush();
}

bool SocketLink::hasHungUp() const {
  pollfd state{socket_.get(), POLLRDHUP, 0};
  return ::poll(&state, 1, 0) > 0;
}

void SocketLink::receive() {
  std::array<uint8_t, kReceiveBytes> piece;
  std::array<iovec, 2> places{};
  size_t count = 0;
  uint8_t* const place = payload() != nullptr ? payload()->place(0) : nullptr;
  const size_t direct = place != nullptr ? payload()->left() : 0;
  if (direct > 0) places[count++] = {place, direct};
  // Behind a payload comes the next request, and behind that another payload, which would have to be copied.
  places[count++] = {piece.data(), direct > 0 ? kRequestBytes : piece.size()};
  msghdr message{};
  message.msg_iov = places.data();
  message.msg_iovlen = count;
  const ssize_t taken = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  if (taken > 0) {
    const size_t bytes = static_cast<size_t>(taken);
    if (direct > 0) received(place, std::min(bytes, direct));
    if (bytes > direct && !closing()) received(piece.data(), bytes - direct);
  } else if (taken == 0) {
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
