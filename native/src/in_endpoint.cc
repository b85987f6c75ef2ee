#include "in_endpoint.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

// FunctionFS copies an AIO write into one kernel allocation, on controllers without scatter-gather a contiguous one:
// small enough to be had on a fragmented system, large enough to keep the bus busy with several in flight.
constexpr size_t kChunkBytes = 128 * 1024;
constexpr size_t kSlots = 16;

}  // namespace

InEndpoint::InEndpoint(Aio& aio, const Bus& bus, UniqueFd fd, std::function<void(int)> failed)
    : aio_(aio), bus_(bus), fd_(std::move(fd)), failed_(std::move(failed)) {
  for (size_t i = 0; i < kSlots; i++) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->owner = this;
  }
}

void InEndpoint::send(std::vector<uint8_t> bytes) {
  auto item = std::make_shared<Item>();
  item->length = bytes.size();
  item->bytes = std::move(bytes);
  unsentBytes_ += item->length;
  items_.push_back(std::move(item));
  pump();
}

void InEndpoint::sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent) {
  auto payload = std::make_shared<Item>();
  payload->heads = heads.size();
  payload->length = part.bytes;
  payload->isOfBlock = true;
  payload->part = std::move(part);
  payload->sent = std::move(sent);
  for (auto& bytes : heads) {
    auto head = std::make_shared<Item>();
    head->length = bytes.size();
    head->bytes = std::move(bytes);
    head->isOfBlock = true;
    items_.push_back(std::move(head));
  }
  items_.push_back(std::move(payload));
  pump();
}

int InEndpoint::attach(int dmabuf) {
  if (closing_ || !fd_) return -ESHUTDOWN;
  return ::ioctl(fd_.get(), uapi::kFfsDmabufAttach, &dmabuf) == 0 ? 0 : -errno;
}

void InEndpoint::detach(int dmabuf) {
  // Closing the endpoint detaches everything without an ioctl that the kernel may not survive: see Bus.
  if (closing_ || !fd_ || bus_.hasNews()) return;
  for (const auto& item : items_) {
    if (item->finished || !item->byDmabuf() || item->part.block->dmabuf.get() != dmabuf) continue;
    item->detachAfterwards = true;
    return;
  }
  ::ioctl(fd_.get(), uapi::kFfsDmabufDetach, &dmabuf);
}

/**
 * The client counts on what a head that has left announces, so such a block goes on. One whose heads are still all ours is
 * forgotten with them.
 */
bool InEndpoint::abandon(const Block& block) {
  bool isFree = true;
  for (size_t i = 0; i < items_.size(); i++) {
    Item& item = *items_[i];
    if (item.part.block.get() != &block || item.finished) continue;
    item.sent = nullptr;
    const size_t first = i - std::min(i, item.heads);
    const bool hasBegun = item.heads > i || first < next_ || items_[first]->submitted > 0;
    if (hasBegun) {
      isFree = false;
      continue;
    }
    for (size_t k = first; k <= i; k++) items_[k]->finished = true;
  }
  dropFinished();
  return isFree;
}

/** Takes an item's requests back from the kernel, newest first: see close(). */
void InEndpoint::cancel(Item& item) {
  std::vector<Slot*> pending;
  for (auto& slot : slots_) {
    if (slot->item.get() == &item) pending.push_back(slot.get());
  }
  std::sort(pending.begin(), pending.end(), [](const Slot* a, const Slot* b) { return a->sequence > b->sequence; });
  for (Slot* slot : pending) aio_.cancel(*slot);
}

void InEndpoint::collect(Poller& poller) {
  pump();
  if (closing_) return;
  // All of them, so that several which have ended meanwhile cost one poll(), and none has to be asked in vain.
  for (size_t i = 0; i < next_; i++) {
    if (!items_[i]->finished && items_[i]->fence) poller.add(items_[i]->fence.fd(), POLLIN, *this);
  }
}

void InEndpoint::onReady(int fd) {
  if (closing_) return;
  const auto ready = std::find_if(items_.begin(), items_.end(), [fd](const auto& item) { return item->fence.fd() == fd; });
  if (ready == items_.end()) return;
  const std::shared_ptr<Item> item = *ready;
  const int status = item->fence.status();
  if (status == 0) return;
  item->fence.close();
  finish(*item, status > 0 ? 0 : status);
  if (closing_) return;
  dropFinished();
  pump();
}

void InEndpoint::onAioDone(AioRequest& request, long result) {
  auto& slot = static_cast<Slot&>(request);
  const std::shared_ptr<Item> item = std::move(slot.item);
  slot.item = nullptr;
  if (closing_ || item->finished) return;
  if (result < 0 || static_cast<size_t>(result) != slot.length) {
    finish(*item, result < 0 ? static_cast<int>(result) : -EIO);
    return;
  }
  item->completed += slot.length;
  if (item->completed == item->length) {
    finish(*item, 0);
    if (closing_) return;
  }
  dropFinished();
  pump();
}

void InEndpoint::finish(Item& item, int status) {
  item.finished = true;
  if (item.detachAfterwards && status >= 0) detach(item.part.block->dmabuf.get());
  if (item.sent) std::exchange(item.sent, nullptr)(status);
  if (status < 0) fail(status);
}

void InEndpoint::dropFinished() {
  while (!items_.empty() && items_.front()->finished) {
    if (!items_.front()->isOfBlock) unsentBytes_ -= items_.front()->length;
    items_.pop_front();
    if (next_ > 0) next_--;
  }
}

void InEndpoint::fail(int error) {
  if (closing_) return;
  closing_ = true;
  failed_(error);
}

InEndpoint::Slot* InEndpoint::freeSlot() {
  const auto slot = std::find_if(slots_.begin(), slots_.end(), [](const auto& s) { return !s->item; });
  return slot == slots_.end() ? nullptr : slot->get();
}

void InEndpoint::pump() {
  while (!closing_ && next_ < items_.size()) {
    const std::shared_ptr<Item> item = items_[next_];
    if (!item->finished && !submitItem(item)) return;
    next_++;
  }
}

/** True when all of the item is with the kernel. */
bool InEndpoint::submitItem(const std::shared_ptr<Item>& item) {
  if (item->byDmabuf()) return submitDmabuf(*item);
  while (item->submitted < item->length) {
    Slot* slot = freeSlot();
    if (slot == nullptr) return false;
    slot->length = std::min(kChunkBytes, item->length - item->submitted);
    // The payload's end wakes us for its header's as well.
    const auto notify = item->isOfBlock && !item->isPayload() ? Aio::Notify::kNo : Aio::Notify::kYes;
    aio_.prepareWrite(*slot, fd_.get(), item->data() + item->submitted, slot->length, notify);
    slot->item = item;
    slot->sequence = submissions_++;
    AioRequest* request = slot;
    // The kernel copies the data while it takes the request.
    CpuAccess access;
    if (item->isPayload()) access = CpuAccess(*item->part.block, uapi::kSyncRead);
    const int taken = aio_.submit(&request, 1);
    access = {};
    if (taken < 0) {
      slot->item = nullptr;
      finish(*item, taken);
      return false;
    }
    item->submitted += slot->length;
  }
  return true;
}

bool InEndpoint::submitDmabuf(Item& item) {
  // What it is decides whether there is an endpoint: collect() tries again.
  if (bus_.hasNews()) return false;
  uapi::FfsDmabufTransfer transfer{item.part.block->dmabuf.get(), 0, item.length};
  if (::ioctl(fd_.get(), uapi::kFfsDmabufTransfer, &transfer) != 0) {
    finish(item, -errno);
    return false;
  }
  item.submitted = item.length;
  // Readers, too: this transfer reads the block.
  item.fence = Fence::exportFrom(item.part.block->dmabuf.get(), uapi::kSyncWrite);
  if (!item.fence) {
    finish(item, -errno);
    return false;
  }
  return true;
}

bool InEndpoint::close() {
  closing_ = true;
  if (!cancelled_) {
    cancelled_ = true;
    // Newest first: what stands behind a cancelled transfer would go out in its place, and a client that still reads would
    // take a payload for a header, or one piece of a block for another.
    for (auto item = items_.rbegin(); item != items_.rend(); ++item) {
      (*item)->fence.close();
      if ((*item)->byDmabuf() && (*item)->submitted > 0 && !busMayBeGone_ && !bus_.hasNews()) {
        int dmabuf = (*item)->part.block->dmabuf.get();
        ::ioctl(fd_.get(), uapi::kFfsDmabufDetach, &dmabuf);
      }
      cancel(**item);
    }
  }
  // The file must not be closed with AIO pending on it: each request holds a reference, so the endpoint would stay open
  // and its DMABUF transfers queued.
  for (const auto& slot : slots_) {
    if (slot->item) return false;
  }
  if (fd_) {
    ::ioctl(fd_.get(), uapi::kFfsFifoFlush);
    fd_.reset();
  }
  // Not before: what they hold is the kernel's until the file is closed.
  items_.clear();
  next_ = 0;
  return true;
}

}  // namespace iio_bridge
