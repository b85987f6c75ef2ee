#include "link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "rx_stream.h"

namespace iio_bridge {
namespace {

// More than this is never held for a client beyond what TypeScript has asked for.
constexpr size_t kReceiveLimit = 64 * 1024;

}  // namespace

void Link::pull(Want want, size_t limit, Delivery delivery) {
  if (closing_) return delivery(reason_ < 0 ? reason_ : -ESHUTDOWN, {});
  want_ = want;
  limit_ = limit;
  delivery_ = std::move(delivery);
  pump();
}

bool Link::hasRoom() const {
  const size_t wanted = want_ == Want::kBytes ? limit_ : 0;
  return received_.size() - consumed_ < std::max(kReceiveLimit, wanted);
}

void Link::received(const uint8_t* data, size_t bytes) {
  if (consumed_ == received_.size()) {
    received_.clear();
    consumed_ = 0;
  }
  received_.insert(received_.end(), data, data + bytes);
  pump();
}

void Link::pump() {
  while (!closing_ && want_ != Want::kNothing) {
    const uint8_t* data = received_.data() + consumed_;
    const size_t available = received_.size() - consumed_;
    switch (want_) {
      case Want::kLine: {
        const auto* end = static_cast<const uint8_t*>(std::memchr(data, '\n', std::min(available, limit_)));
        if (end != nullptr) {
          deliver(0, static_cast<size_t>(end - data) + 1);
        } else if (available >= limit_) {
          deliver(-E2BIG, limit_);
        } else {
          return;
        }
        break;
      }
      case Want::kBytes:
        if (available < limit_) return;
        deliver(0, limit_);
        break;
      case Want::kFrame: {
        if (available < sizeof(FrameHeader)) return;
        FrameHeader header;
        std::memcpy(&header, data, sizeof header);
        if (stream_ == nullptr || !stream_->handles(header)) {
          deliver(0, sizeof header);
        } else if (!executeStreamFrame(header)) {
          return;
        }
        break;
      }
      case Want::kNothing:
        return;
    }
  }
}

/** False while the frame is incomplete. */
bool Link::executeStreamFrame(const FrameHeader& header) {
  const size_t payload = stream_->requestPayloadBytes(header);
  if (received_.size() - consumed_ < sizeof header + payload) return false;
  uint64_t bytesUsed = 0;
  std::memcpy(&bytesUsed, received_.data() + consumed_ + sizeof header, payload);
  consumed_ += sizeof header + payload;
  stream_->handle(header, bytesUsed);
  return true;
}

void Link::deliver(int status, size_t bytes) {
  const auto begin = received_.begin() + static_cast<ptrdiff_t>(consumed_);
  std::vector<uint8_t> piece(begin, begin + static_cast<ptrdiff_t>(bytes));
  consumed_ += bytes;
  want_ = Want::kNothing;
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
  stream_ = nullptr;
  stop();
  if (want_ != Want::kNothing) deliver(reason < 0 ? reason : -ESHUTDOWN, 0);
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
