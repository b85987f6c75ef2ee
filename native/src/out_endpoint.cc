#include "out_endpoint.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

constexpr size_t kSlots = 16;

}  // namespace

OutEndpoint::OutEndpoint(Aio& aio, UniqueFd fd, size_t packetBytes,
                         std::function<void(const uint8_t*, size_t)> received, std::function<void(int)> failed)
    : aio_(aio), fd_(std::move(fd)), received_(std::move(received)), failed_(std::move(failed)) {
  for (size_t i = 0; i < kSlots; i++) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->owner = this;
    slots_.back()->data.resize(packetBytes);
  }
}

void OutEndpoint::arm() {
  // In batches: each costs a system call.
  if (posted_ > kSlots / 2) return;
  while (!closing_ && posted_ < kSlots) {
    AioRequest* batch[kSlots];
    unsigned count = 0;
    for (size_t i = posted_; i < kSlots; i++) {
      Slot& slot = *slots_[(oldest_ + i) % kSlots];
      aio_.prepareRead(slot, fd_.get(), slot.data.data(), slot.data.size(), Aio::Notify::kYes);
      batch[count++] = &slot;
    }
    const int taken = aio_.submit(batch, count);
    if (taken <= 0) return fail(taken < 0 ? taken : -EIO);
    for (int i = 0; i < taken; i++) slots_[(oldest_ + posted_++) % kSlots]->state = Slot::kPosted;
  }
}

void OutEndpoint::onAioDone(AioRequest& request, long result) {
  auto& slot = static_cast<Slot&>(request);
  slot.state = Slot::kDone;
  slot.result = result;
  // Completions are reported by a kernel worker: deliver in the order of posting, whatever theirs is.
  while (posted_ > 0 && slots_[oldest_]->state == Slot::kDone) {
    Slot& done = *slots_[oldest_];
    done.state = Slot::kFree;
    oldest_ = (oldest_ + 1) % kSlots;
    posted_--;
    if (closing_) continue;
    if (done.result < 0) {
      fail(static_cast<int>(done.result));
    } else if (done.result > 0) {
      received_(done.data.data(), static_cast<size_t>(done.result));
    }
  }
}

void OutEndpoint::fail(int error) {
  if (closing_) return;
  closing_ = true;
  failed_(error);
}

bool OutEndpoint::close() {
  closing_ = true;
  if (!cancelled_) {
    cancelled_ = true;
    for (auto& slot : slots_) {
      if (slot->state == Slot::kPosted) aio_.cancel(*slot);
    }
  }
  for (const auto& slot : slots_) {
    if (slot->state == Slot::kPosted) return false;
  }
  if (fd_) {
    ::ioctl(fd_.get(), uapi::kFfsFifoFlush);
    fd_.reset();
  }
  return true;
}

}  // namespace iio_bridge
