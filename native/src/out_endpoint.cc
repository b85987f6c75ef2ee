#include "out_endpoint.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

constexpr size_t kSlots = 16;

// FunctionFS receives into one kernel allocation per read, on controllers without scatter-gather a contiguous one.
constexpr size_t kChunkBytes = 128 * 1024;

}  // namespace

OutEndpoint::OutEndpoint(Aio& aio, const Bus& bus, UniqueFd fd, size_t packetBytes,
                         std::function<void(const uint8_t*, size_t)> received, std::function<void(int)> failed)
    : aio_(aio),
      bus_(bus),
      fd_(std::move(fd)),
      packetBytes_(packetBytes),
      received_(std::move(received)),
      failed_(std::move(failed)) {
  for (size_t i = 0; i < kSlots; i++) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->owner = this;
    slots_.back()->packet.resize(packetBytes);
  }
}

int OutEndpoint::attach(int dmabuf) {
  if (closing_ || !fd_) return -ESHUTDOWN;
  if (::ioctl(fd_.get(), uapi::kFfsDmabufAttach, &dmabuf) != 0) return -errno;
  if (!exact_) cancelReads(1);
  exact_ = true;
  return 0;
}

void OutEndpoint::detach(const std::shared_ptr<Block>& block) {
  // As InEndpoint::detach(): never after the controller may have been unbound.
  if (closing_ || !fd_ || bus_.hasNews()) return;
  const auto pending = std::find_if(transfers_.begin(), transfers_.end(),
                                    [&](const Transfer& transfer) { return transfer.block == block; });
  if (pending != transfers_.end()) {
    // The client goes on sending, and only the controller knows how far it is.
    pending->detachAfterwards = true;
    return;
  }
  int dmabuf = block->dmabuf.get();
  ::ioctl(fd_.get(), uapi::kFfsDmabufDetach, &dmabuf);
}

size_t OutEndpoint::receiveByDma(const std::shared_ptr<Block>& block, size_t bytes, std::function<void(int)> done) {
  // A controller is given whole packets only: a transfer that ends within one may be followed by another request in the
  // same packet, and some controllers cannot receive less than a packet.
  const size_t whole = bytes / packetBytes_ * packetBytes_;
  if (closing_ || posted_ > 0 || whole == 0 || bus_.hasNews()) return 0;
  uapi::FfsDmabufTransfer request{block->dmabuf.get(), 0, whole};
  if (::ioctl(fd_.get(), uapi::kFfsDmabufTransfer, &request) != 0) return 0;
  // Also of kernels whose fence for this direction is that of a reader: Linux 6.9 to 6.12 without "f_fs: fix DMA-BUF OUT
  // queues".
  Transfer transfer{block, Fence::exportFrom(block->dmabuf.get(), uapi::kSyncWrite), std::move(done)};
  const int error = transfer.fence ? 0 : -errno;
  transfers_.push_back(std::move(transfer));
  if (error != 0) fail(error);
  return whole;
}

void OutEndpoint::arm(Payload* payload) {
  // In batches: each costs a system call.
  if (closing_ || posted_ > kSlots / 2) return;
  AioRequest* batch[kSlots];
  unsigned count = 0;
  size_t ahead = postedBytes_;
  for (size_t i = posted_; i < kSlots; i++) {
    Slot& next = slot(i);
    if (!prepare(next, payload, ahead, i == 0)) break;
    ahead += next.length;
    batch[count++] = &next;
  }
  for (unsigned done = 0; done < count;) {
    const int taken = aio_.submit(batch + done, count - done);
    if (taken <= 0) return fail(taken < 0 ? taken : -EIO);
    for (int i = 0; i < taken; i++) {
      Slot& posted = slot(posted_++);
      posted.state = Slot::kPosted;
      postedBytes_ += posted.length;
    }
    done += static_cast<unsigned>(taken);
  }
}

/** Makes a read of what comes after `ahead` further bytes; false where it would be too early for that. */
bool OutEndpoint::prepare(Slot& slot, Payload* payload, size_t ahead, bool isFirst) {
  const size_t left = payload == nullptr || payload->left() <= ahead ? 0 : payload->left() - ahead;
  if (exact_ && left < packetBytes_ && !isFirst) return false;
  uint8_t* place = left >= packetBytes_ ? payload->place(ahead) : nullptr;
  if (place != nullptr) {
    // Transfers that end within a packet leave room in the reads ahead, which still reach as far as they did: what comes for
    // this read must not come to lie on what has come for those, and is not yet where it belongs.
    uint8_t* const end = place + left;
    place = std::max(place, targetsEnd(*payload->block));
    const size_t room = place < end ? static_cast<size_t>(end - place) : 0;
    slot.length = std::min(room / packetBytes_ * packetBytes_, kChunkBytes);
    if (slot.length == 0) place = nullptr;
  }
  if (place == nullptr) slot.length = packetBytes_;
  slot.target = place != nullptr ? place : slot.packet.data();
  slot.block = place != nullptr ? payload->block : nullptr;
  slot.cancelled = false;
  aio_.prepareRead(slot, fd_.get(), slot.target, slot.length, Aio::Notify::kYes);
  return true;
}

/** Where the reads into a block end that are posted, or prepared to be; null where there is none. */
uint8_t* OutEndpoint::targetsEnd(const Block& block) {
  uint8_t* end = nullptr;
  for (const auto& slot : slots_) {
    if (slot->block.get() == &block) end = std::max(end, slot->target + slot->length);
  }
  return end;
}

/** Newest first: what comes for a cancelled read must not go to one behind it. */
void OutEndpoint::cancelReads(size_t keep) {
  for (size_t i = posted_; i > keep; i--) {
    Slot& posted = slot(i - 1);
    if (posted.state != Slot::kPosted || posted.cancelled) continue;
    posted.cancelled = true;
    aio_.cancel(posted);
  }
}

void OutEndpoint::onAioDone(AioRequest& request, long result) {
  auto& ended = static_cast<Slot&>(request);
  ended.state = Slot::kDone;
  ended.result = result;
  // Completions are reported by a kernel worker: deliver in the order of posting, whatever theirs is.
  while (posted_ > 0 && slot(0).state == Slot::kDone) {
    Slot& done = slot(0);
    const std::shared_ptr<Block> block = std::move(done.block);
    done.block = nullptr;
    done.state = Slot::kFree;
    oldest_ = (oldest_ + 1) % kSlots;
    posted_--;
    postedBytes_ -= done.length;
    if (closing_) continue;
    if (done.result > 0) {
      received_(done.target, static_cast<size_t>(done.result));
    } else if (done.result < 0 && !done.cancelled) {
      fail(static_cast<int>(done.result));
    }
  }
}

void OutEndpoint::collect(Poller& poller) {
  // Transfers of one endpoint end in order.
  if (!closing_ && !transfers_.empty()) poller.add(transfers_.front().fence.fd(), POLLIN, *this);
}

void OutEndpoint::onReady(int) {
  while (!closing_ && !transfers_.empty()) {
    const int status = transfers_.front().fence.status();
    if (status == 0) return;
    Transfer ended = std::move(transfers_.front());
    transfers_.pop_front();
    ended.fence.close();
    if (ended.detachAfterwards) detach(ended.block);
    ended.done(status > 0 ? 0 : status);
    // How much of it has come, nobody knows: what follows cannot be told from samples.
    if (status < 0) fail(status);
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
    // Reads are the newest of all: none is posted when a transfer is queued.
    cancelReads(0);
    for (; !transfers_.empty(); transfers_.pop_back()) {
      Transfer& transfer = transfers_.back();
      transfer.fence.close();  // before the DETACH: see Fence
      int dmabuf = transfer.block->dmabuf.get();
      if (!busMayBeGone_ && !bus_.hasNews()) ::ioctl(fd_.get(), uapi::kFfsDmabufDetach, &dmabuf);
      transfer.done(-ESHUTDOWN);
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
