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

void SocketLink::sendBlock(const FrameHeader& header, std::shared_ptr<Block> block, std::function<void(int)> sent) {
  if (closing()) return;
  const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
  Item& item = items_.emplace_back();
  item.bytes.assign(bytes, bytes + sizeof header);
  item.block = std::move(block);
  item.sent = std::move(sent);
  flush();
}

/**
 * The client counts on every byte that a header has announced, so a block that has begun to leave goes on, out of memory
 * that only this link knows any more: at most one block per link. One that has not begun is forgotten with its header.
 */
void SocketLink::abandon(const Block& block) {
  for (auto item = items_.begin(); item != items_.end();) {
    if (item->block.get() != &block) {
      ++item;
      continue;
    }
    item->sent = nullptr;
    item = item->taken == 0 ? items_.erase(item) : std::next(item);
  }
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
    if (!item->block) continue;
    if (!item->access) item->access = CpuAccess(*item->block, uapi::kSyncRead);
    const size_t begin = item->taken > head ? item->taken - head : 0;
    pieces[count++] = {item->block->memory.data() + begin, item->block->bytes - begin};
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
    if (!first.block) unsentBytes_ -= step;
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
