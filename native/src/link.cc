#include "link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace iio_bridge {
namespace {

// More than this is never held for a client beyond what TypeScript has asked for.
constexpr size_t kReceiveLimit = 64 * 1024;

// A client that leaves more than this of its answers unread gets no further one.
constexpr size_t kUnsentLimit = 1024 * 1024;

// How long what a client has asked for may take after it has closed its side of the connection: it may still read, as
// `echo PRINT | nc` does, but most that close are gone, and their buffers must be given back.
constexpr auto kLastAnswerPatience = std::chrono::seconds(1);

}  // namespace

void Link::pull(Want want, size_t limit, Delivery delivery) {
  if (closing_) return delivery(reason_ < 0 ? reason_ : -ESHUTDOWN, {});
  want_ = want;
  limit_ = limit;
  delivery_ = std::move(delivery);
  pump();
}

bool Link::wantsMore() const {
  if (closing_ || clientDone_) return false;
  if (payload_) return true;
  if (exact_) return want_ != Want::kNothing && unsentBytes() <= kUnsentLimit;
  const size_t wanted = want_ == Want::kBytes ? limit_ : 0;
  return received_.size() - consumed_ < std::max(kReceiveLimit, wanted);
}

void Link::receivePayload(const std::shared_ptr<Payload>& payload) {
  if (closing_) return payload->finish(reason_ < 0 ? reason_ : -ESHUTDOWN);
  payload_ = payload;
  if (consumed_ == received_.size()) payload->placed = receiveByHardware(payload);
  if (closing_) return;
  const size_t buffered = std::min(received_.size() - consumed_, payload->left());
  const uint8_t* data = received_.data() + consumed_;
  consumed_ += buffered;
  place(data, buffered);
  if (payload_ && clientDone_) close(-ESHUTDOWN);
}

void Link::receivedByHardware(Payload& payload, int status) {
  payload.byHardware = false;
  if (status < 0 || payload.left() == 0) payload.finish(status);
}

/** Puts the next bytes of the payload where they belong, if they are not there already. */
void Link::place(const uint8_t* data, size_t bytes) {
  if (bytes > 0) {
    uint8_t* to = payload_->place(0);
    if (to != nullptr && to != data) std::memmove(to, data, bytes);
    payload_->placed += bytes;
  }
  if (payload_->left() > 0) return;
  const std::shared_ptr<Payload> whole = std::exchange(payload_, nullptr);
  if (!whole->byHardware) whole->finish(0);
}

void Link::received(const uint8_t* data, size_t bytes) {
  while (payload_ && bytes > 0) {
    const size_t step = std::min(bytes, payload_->left());
    place(data, step);
    data += step;
    bytes -= step;
  }
  if (bytes == 0) return pump();
  if (consumed_ == received_.size()) {
    received_.clear();
    consumed_ = 0;
  } else if (consumed_ >= kReceiveLimit) {
    received_.erase(received_.begin(), received_.begin() + static_cast<ptrdiff_t>(consumed_));
    consumed_ = 0;
  }
  received_.insert(received_.end(), data, data + bytes);
  pump();
}

void Link::clientDone() {
  clientDone_ = true;
  clientLeaves();
  if (payload_) return close(-ESHUTDOWN);
  pump();
}

void Link::clientLeaves() {
  clientLeft_ = true;
  busySince_ = Clock::now();
}

void Link::drain(size_t limit, Drained drained) {
  if (closing_) return drained(reason_ < 0 ? reason_ : -ESHUTDOWN);
  drains_.push_back({limit, std::move(drained)});
}

void Link::proceed() {
  const auto waiting = std::stable_partition(drains_.begin(), drains_.end(),
                                             [this](const Drain& drain) {
                                               return unsentBytes() > drain.limit || (drain.limit == 0 && !isIdle());
                                             });
  if (waiting != drains_.end()) busySince_ = Clock::now();
  for (auto drain = waiting; drain != drains_.end(); ++drain) drain->drained(0);
  drains_.erase(waiting, drains_.end());
  pump();
}

Clock::time_point Link::nextDeadline() const {
  const bool waiting = clientLeft_ && !closing_ && want_ == Want::kNothing && drains_.empty();
  return waiting ? busySince_ + kLastAnswerPatience : Clock::time_point::max();
}

void Link::pump() {
  while (!closing_ && !payload_ && want_ != Want::kNothing && unsentBytes() <= kUnsentLimit) {
    if (serve()) continue;
    if (clientDone_) close(-ESHUTDOWN);
    return;
  }
}

/** False while what TypeScript wants has not wholly arrived. */
bool Link::serve() {
  const uint8_t* data = received_.data() + consumed_;
  const size_t available = received_.size() - consumed_;
  if (available == 0) return false;
  switch (want_) {
    case Want::kLine: {
      const auto* end = static_cast<const uint8_t*>(std::memchr(data, '\n', std::min(available, limit_)));
      if (end != nullptr) {
        deliver(0, static_cast<size_t>(end - data) + 1);
      } else if (available >= limit_) {
        deliver(-E2BIG, limit_);
      } else {
        return false;
      }
      return true;
    }
    case Want::kBytes:
      if (available < limit_) return false;
      deliver(0, limit_);
      return true;
    case Want::kFrame: {
      if (available < sizeof(FrameHeader)) return false;
      FrameHeader header;
      std::memcpy(&header, data, sizeof header);
      for (FrameHandler* handler : handlers_) {
        if (handler->handles(header)) return execute(*handler, header);
      }
      deliver(0, sizeof header);
      return true;
    }
    case Want::kNothing:
      break;
  }
  return false;
}

/** False while the frame is incomplete. */
bool Link::execute(FrameHandler& handler, const FrameHeader& header) {
  const size_t payload = handler.requestPayloadBytes(header);
  if (received_.size() - consumed_ < sizeof header + payload) return false;
  uint64_t bytesUsed = 0;
  std::memcpy(&bytesUsed, received_.data() + consumed_ + sizeof header, payload);
  consumed_ += sizeof header + payload;
  handler.handle(header, bytesUsed);
  return true;
}

void Link::removeHandler(FrameHandler& handler) {
  handlers_.erase(std::remove(handlers_.begin(), handlers_.end(), &handler), handlers_.end());
}

void Link::deliver(int status, size_t bytes) {
  const auto begin = received_.begin() + static_cast<ptrdiff_t>(consumed_);
  std::vector<uint8_t> piece(begin, begin + static_cast<ptrdiff_t>(bytes));
  consumed_ += bytes;
  want_ = Want::kNothing;
  busySince_ = Clock::now();
  std::exchange(delivery_, nullptr)(status, std::move(piece));
}

void Link::sendResponse(uint16_t clientId, int32_t code) {
  const FrameHeader header{clientId, 0, 0, code};
  const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
  send({bytes, bytes + sizeof header});
}

void Link::close(int reason) {
  if (closing_) return;
  closing_ = true;
  reason_ = reason;
  handlers_.clear();
  stop();
  const int why = reason < 0 ? reason : -ESHUTDOWN;
  if (const std::shared_ptr<Payload> cut = std::exchange(payload_, nullptr)) cut->finish(why);
  for (const Drain& drain : std::exchange(drains_, {})) drain.drained(why);
  if (want_ != Want::kNothing) deliver(why, 0);
}

bool Link::finishClosing() {
  if (!closeFiles()) return false;
  if (!reported_) {
    reported_ = true;
    if (closed_) closed_(reason_);
  }
  return true;
}

}  // namespace iio_bridge
