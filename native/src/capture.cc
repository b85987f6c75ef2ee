#include "capture.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

#include "reader.h"
#include "uapi.h"

namespace iio_bridge {
namespace {

// Below this many blocks with the hardware, the moment of an enqueue is worth a look at the clock: it may end a gap.
constexpr size_t kFewBlocks = 2;

// How long to wait for the end of a transfer of a block that some other endpoint still has.
constexpr auto kBusyRetry = std::chrono::milliseconds(2);

// How long the difference between the clocks may be taken for constant.
constexpr uint64_t kClockSkewNs = 1'000'000'000;

/** As of the loop's turn: costs nothing, and may be a little old. */
uint64_t turnNs() { return static_cast<uint64_t>(Clock::now().time_since_epoch().count()); }

template <typename Container, typename Value>
void eraseFrom(Container& container, const Value& value) {
  container.erase(std::remove(container.begin(), container.end(), value), container.end());
}

}  // namespace

Capture::Capture(UniqueFd iio, UniqueFd overflowCounter, const Options& options)
    : iio_(std::move(iio)), counter_(std::move(overflowCounter)), options_(options), flows_(options.flows) {
  if (options.byRead) source_ = SourceKind::kRead;
}

Capture::~Capture() {
  enabled_ = false;
  while (!blocks_.empty()) removeBlock(blocks_.back());
  while (!filling_.empty()) removeBlock(filling_.back());
}

int Capture::attach(CaptureBlock& block) {
  int fd = block.dmabuf.get();
  if (::ioctl(iio_.get(), uapi::kIioDmabufAttach, &fd) != 0) return -errno;
  block.iioAttached = true;
  hadDmabufs_ = true;
  return 0;
}

void Capture::detach(CaptureBlock& block) {
  if (!std::exchange(block.iioAttached, false)) return;
  int fd = block.dmabuf.get();
  ::ioctl(iio_.get(), uapi::kIioDmabufDetach, &fd);
}

/** Nobody has the block any more. */
void Capture::end(CaptureBlock& block) {
  for (Reader* reader : readers_) reader->forget(block);
  detach(block);
}

int Capture::addBlock(UniqueFd dmabuf, size_t size, BlockPtr& added) {
  auto block = std::make_shared<CaptureBlock>();
  block->dmabuf = std::move(dmabuf);
  block->size = size;
  if (source_ == SourceKind::kDmabuf) {
    const int error = block->dmabuf ? attach(*block) : -ENOMEM;
    if (error != 0) {
      if (!blocks_.empty() || hadDmabufs_) return error;
      source_ = SourceKind::kRead;
      sourceErrno_ = -error;
    }
  }
  if (source_ == SourceKind::kRead) {
    const int error = block->map();
    if (error != 0) return error;
  }
  blocks_.push_back(block);
  if (flows_) free_.push_back(block);
  added = block;
  return 0;
}

void Capture::removeBlock(BlockPtr block) {
  block->retired = true;
  eraseFrom(blocks_, block);
  eraseFrom(free_, block);
  // While the capture flows, what the hardware fills it with is for all readers, and who may yet join: it ends after that.
  if (flows_ && enabled_ && block->state == CaptureBlock::State::kFilling) return;
  eraseFrom(filling_, block);
  block->fence.close();
  // A block that another reader still sends is detached when that has let go: its end must not be cut off.
  if (block->state != CaptureBlock::State::kHeld) end(*block);
}

void Capture::start(const Run& run) {
  run_ = run;
  enabled_ = true;
  faulted_ = false;
  halted_ = false;
  disabledByOthers_ = false;
  epoch_++;
  sequence_ = 0;
  position_ = 0;
  lastEndNs_ = 0;
  lastTimestampIsKnown_ = false;
  countIsKnown_ = counter_.read(lastCount_);
  countedForNext_ = 0;
  nextHasBegun_ = false;
  // What was read() into them is of the time before.
  for (const BlockPtr& block : filling_) block->filled = 0;
  for (Reader* reader : readers_) reader->started();
  replenish();
}

void Capture::stop() {
  if (!enabled_) return;
  drain();
  enabled_ = false;
  isReading_ = false;
  retryAt_ = Clock::time_point::max();
  // What the device has lost since the last block.
  uint64_t counted = 0;
  if (readCounted(counted)) statistics_.lostSets += countedForNext_ + counted;
  if (!flows_) return;
  if (source_ == SourceKind::kRead) {
    for (const BlockPtr& block : std::exchange(filling_, {})) becomeFree(block);
  }
  for (Reader* reader : readers_) reader->stopped();
}

void Capture::join(Reader& reader) {
  readers_.push_back(&reader);
  // The others may have had all there is.
  for (Reader* other : readers_) other->trim();
  if (readers_.size() < 2 || flows_) return;
  // From here on what is captured is for all.
  flows_ = true;
  for (const BlockPtr& block : blocks_) {
    if (block->state == CaptureBlock::State::kFree) free_.push_back(block);
  }
  replenish();
}

void Capture::leave(Reader& reader) { eraseFrom(readers_, &reader); }

size_t Capture::holdLimit(size_t own) const {
  if (readers_.size() < 2) return SIZE_MAX;
  const size_t surplus = blocks_.size() > owned_ ? blocks_.size() - owned_ : 0;
  return own == 0 ? 0 : own + surplus / readers_.size();
}

size_t Capture::waiting() const {
  size_t most = 0;
  for (const Reader* reader : readers_) most = std::max(most, reader->backlog());
  return most;
}

int Capture::enqueue(const BlockPtr& block, size_t bytes) {
  if (disabledByOthers_) return -EINTR;
  // A loss that is still to be measured must not grow by one that comes after this block.
  const bool isMeasured = mayMeasure();
  if (isMeasured) drain();
  block->bytes = bytes;
  block->filled = 0;
  block->isDone = false;
  if (source_ == SourceKind::kDmabuf) {
    uapi::IioDmabuf request{static_cast<uint32_t>(block->dmabuf.get()), 0, bytes};
    int error = ::ioctl(iio_.get(), uapi::kIioDmabufEnqueue, &request) == 0 ? 0 : -errno;
    if (error == -EBUSY) {
      detach(*block);
      error = attach(*block);
      if (error == 0 && ::ioctl(iio_.get(), uapi::kIioDmabufEnqueue, &request) != 0) error = -errno;
    }
    if (error != 0) return error;
    block->fence = Fence::exportFrom(block->dmabuf.get(), uapi::kSyncRead);
    if (!block->fence) return -errno;
  }
  block->enqueuedNs = filling_.size() >= kFewBlocks ? 0 : isMeasured ? monotonicNs() : turnNs();
  block->state = CaptureBlock::State::kFilling;
  filling_.push_back(block);
  return 0;
}

/** Whether the end of a block that waits to be filled is what a loss before it is measured by. */
bool Capture::mayMeasure() const {
  if (run_.isLossless || (!counter_ && options_.timestampOffset < 0)) return false;
  return filling_.size() < kFewBlocks ||
         std::any_of(filling_.begin(), filling_.end(), [](const BlockPtr& block) { return block->enqueuedNs != 0; });
}

/** Gives the hardware all that there is, while the capture flows. */
void Capture::replenish() {
  if (!flows_ || !enabled_ || faulted_ || halted_) return;
  while (!free_.empty() || makeRoom()) {
    const BlockPtr block = free_.front();
    free_.pop_front();
    const int error = enqueue(block, block->size - block->size % options_.setBytes);
    if (error == -EBUSY) {
      free_.push_back(block);
      retryAt_ = Clock::now() + kBusyRetry;
      return;
    }
    if (error != 0) {
      free_.push_back(block);
      return failed(error);
    }
  }
  if (options_.policy == RingPolicy::kStop && filling_.empty() && !blocks_.empty()) halt();
}

/** With nothing left for the hardware, takes the oldest block from whoever has let most of them wait. */
bool Capture::makeRoom() {
  if (options_.policy != RingPolicy::kDropOldest || filling_.size() >= std::min(kFewBlocks, blocks_.size() - 1)) return false;
  const auto slowest = std::max_element(readers_.begin(), readers_.end(), [](const Reader* a, const Reader* b) {
    return a->backlog() < b->backlog();
  });
  while (free_.empty() && slowest != readers_.end() && (*slowest)->dropOldest()) {
  }
  return !free_.empty();
}

void Capture::halt() {
  halted_ = true;
  for (Reader* reader : readers_) reader->failed(-ENOBUFS, nullptr);
}

void Capture::resume() {
  if (!faulted_) return;
  faulted_ = false;
  replenish();
}

void Capture::expire() {
  retryAt_ = Clock::time_point::max();
  faulted_ = false;
  replenish();
}

void Capture::collect(Poller& poller) {
  replenish();
  if (filling_.empty()) return;
  if (source_ == SourceKind::kRead) {
    if (isToRead()) poller.add(iio_.get(), POLLIN, *this);
    return;
  }
  for (const BlockPtr& block : filling_) {
    if (!block->isDone) poller.add(block->fence.fd(), POLLIN, *this);
  }
}

bool Capture::isToRead() {
  const bool was = isReading_;
  isReading_ = enabled_ && !filling_.empty() &&
               (!flows_ || !options_.onDemand ||
                std::any_of(readers_.begin(), readers_.end(), [](const Reader* reader) { return reader->wants(); }));
  // Until now the kernel's FIFO had to keep what came.
  if (isReading_ && !was && options_.onDemand && filling_.front()->filled == 0) filling_.front()->enqueuedNs = monotonicNs();
  return isReading_;
}

void Capture::onReady(int fd) {
  if (source_ == SourceKind::kRead) return readIntoHead();
  const auto ready = std::find_if(filling_.begin(), filling_.end(),
                                  [fd](const auto& block) { return !block->isDone && block->fence.fd() == fd; });
  if (ready == filling_.end()) return;
  if (ready == filling_.begin()) {
    uint64_t endedAtNs = 0;
    const int status = (*ready)->fence.status(endedAtNs);
    if (status != 0) completed(status > 0 ? 0 : status, endedAtNs);
  } else {
    // Refused by the driver while others wait: its turn comes after theirs.
    (*ready)->status = (*ready)->fence.status();
    (*ready)->isDone = (*ready)->status != 0;
  }
  completeDone();
}

void Capture::completeDone() {
  while (!filling_.empty() && filling_.front()->isDone) {
    const int status = filling_.front()->status;
    completed(status > 0 ? 0 : status, 0);
  }
}

/** Takes what the source is done with, before poll() says so. */
void Capture::drain() {
  if (source_ == SourceKind::kRead) return;
  while (!filling_.empty()) {
    uint64_t endedAtNs = 0;
    const int status = filling_.front()->isDone ? filling_.front()->status : filling_.front()->fence.status(endedAtNs);
    if (status == 0) return;
    completed(status > 0 ? 0 : status, endedAtNs);
  }
}

void Capture::readIntoHead() {
  while (isToRead()) {
    CaptureBlock& block = *filling_.front();
    CpuAccess access(block, uapi::kSyncWrite);
    const ssize_t count = ::read(iio_.get(), block.memory.data() + block.filled, block.bytes - block.filled);
    const int error = count < 0 ? errno : 0;
    access = {};
    if (error == EAGAIN || error == EINTR) return;
    if (count <= 0) return completed(error != 0 ? -error : -EPIPE, 0);
    block.filled += static_cast<size_t>(count);
    if (block.filled == block.bytes) completed(0, 0);
    if (filling_.empty()) replenish();
  }
}

/** The source is done with the block at the head of its queue. */
void Capture::completed(int status, uint64_t endedAtNs) {
  const BlockPtr block = filling_.front();
  filling_.pop_front();
  block->fence.close();
  // A fence that was over before it could be exported says nothing about when.
  if (endedAtNs < block->enqueuedNs || endedAtNs <= lastEndNs_) endedAtNs = std::max(turnNs(), block->enqueuedNs);
  if (status < 0) {
    lastEndNs_ = endedAtNs;
    statistics_.sourceErrors++;
    // Somebody else has disabled the buffer: what is enqueued from here on would never end, and its memory with it.
    if (status == -EINTR && enabled_) disabledByOthers_ = true;
    if (flows_) {
      becomeFree(block);
      if (enabled_) failed(status);
    } else {
      block->state = CaptureBlock::State::kFree;
      for (Reader* reader : std::vector<Reader*>(readers_)) reader->failed(status, block.get());
    }
    return;
  }
  const auto filled = std::make_shared<Filled>();
  filled->block = block;
  filled->bytes = block->bytes;
  filled->record = account(*block, endedAtNs);
  filled->holders = 1;
  block->state = CaptureBlock::State::kHeld;
  for (Reader* reader : std::vector<Reader*>(readers_)) reader->offer(filled);
  release(filled);
}

BlockRecord Capture::account(CaptureBlock& block, uint64_t endedAtNs) {
  BlockRecord record;
  record.sequence = sequence_++;
  record.epoch = epoch_;
  record.flags = kLossExact;
  record.capturedAtNs = realtimeOf(endedAtNs);
  if (!run_.isLossless) {
    const uint64_t gapNs = lastEndNs_ != 0 && block.enqueuedNs > lastEndNs_ ? block.enqueuedNs - lastEndNs_ : 0;
    const auto kept = static_cast<uint64_t>(run_.samplingHz > 0 ? run_.fifoSets * 1e9 / run_.samplingHz : 0);
    record.gapNs = gapNs - std::min(gapNs, kept);
    if (!accountCounted(endedAtNs, record) && record.gapNs > 0) accountMeasured(block, record.gapNs, record);
    if (record.lostSets > 0 && record.gapNs == 0 && run_.samplingHz > 0) {
      record.gapNs = static_cast<uint64_t>(static_cast<double>(record.lostSets) * 1e9 / run_.samplingHz);
    }
    if (record.gapNs > 0 || record.lostSets > 0) statistics_.overruns++;
    statistics_.gapNs += record.gapNs;
    statistics_.lostSets += record.lostSets;
  }
  lastEndNs_ = endedAtNs;
  position_ += block.bytes;
  statistics_.blocks++;
  statistics_.bytes += block.bytes;
  if (filling_.empty() && options_.timestampOffset >= 0) noteLastTimestamp(block);
  return record;
}

uint64_t Capture::realtimeOf(uint64_t monotonic) {
  if (turnNs() - clocksReadNs_ >= kClockSkewNs) {
    clocksReadNs_ = turnNs();
    clockDifferenceNs_ = clockNs(CLOCK_REALTIME) - monotonicNs();
  }
  return monotonic + clockDifferenceNs_;
}

/** What the device has counted since this was asked last. False where it has no counter. */
bool Capture::readCounted(uint64_t& counted) {
  uint64_t count = 0;
  if (!countIsKnown_ || !counter_.read(count)) return false;
  const uint64_t last = std::exchange(lastCount_, count);
  // A counter that somebody has reset begins anew.
  counted = count >= last ? count - last : count;
  return true;
}

/**
 * By the device's own counter, which is asked at every block: a device may lose samples without a gap that we could see. What
 * it has counted since the last block was lost before this block or before the next one, depending on which of them the
 * source was to begin since then. False where there is no counter.
 */
bool Capture::accountCounted(uint64_t endedAtNs, BlockRecord& record) {
  uint64_t counted = 0;
  if (!readCounted(counted)) return false;
  record.lostSets = std::exchange(countedForNext_, 0);
  const bool hadBegun = std::exchange(nextHasBegun_, !filling_.empty() && filling_.front()->enqueuedNs <= endedAtNs);
  (hadBegun ? countedForNext_ : record.lostSets) += counted;
  return true;
}

/** By the time stamps in the samples, or by the sampling frequency. */
void Capture::accountMeasured(CaptureBlock& block, uint64_t gapNs, BlockRecord& record) {
  const bool lastIsKnown = std::exchange(lastTimestampIsKnown_, false);
  int64_t first = 0;
  if (lastIsKnown && run_.samplingHz > 0 && readTimestamp(block, static_cast<size_t>(options_.timestampOffset), first)) {
    const double sets = static_cast<double>(first - lastTimestamp_) * run_.samplingHz / 1e9;
    record.lostSets = sets > 1 ? static_cast<uint64_t>(std::llround(sets)) - 1 : 0;
  } else {
    record.lostSets = static_cast<uint64_t>(static_cast<double>(gapNs) * run_.samplingHz / 1e9);
    record.flags = 0;
  }
}

bool Capture::readTimestamp(CaptureBlock& block, size_t offset, int64_t& value) const {
  // A sample set that began in another block is not looked for.
  if (position_ % options_.setBytes != 0 || block.bytes % options_.setBytes != 0 || block.map() != 0) return false;
  const CpuAccess access(block, uapi::kSyncRead);
  std::memcpy(&value, block.memory.data() + offset, sizeof value);
  return true;
}

/** The hardware has nothing to fill now: what comes next may come after a gap. */
void Capture::noteLastTimestamp(CaptureBlock& block) {
  const size_t offset = static_cast<size_t>(options_.timestampOffset);
  lastTimestampIsKnown_ =
      block.bytes >= options_.setBytes && readTimestamp(block, block.bytes - options_.setBytes + offset, lastTimestamp_);
}

/** While the capture flows: nothing is captured until a reader wants something again. */
void Capture::failed(int status) {
  faulted_ = true;
  for (Reader* reader : std::vector<Reader*>(readers_)) reader->failed(status, nullptr);
}

void Capture::release(const FilledPtr& filled) {
  if (--filled->holders > 0) return;
  becomeFree(filled->block);
}

void Capture::becomeFree(const BlockPtr& block) {
  block->state = CaptureBlock::State::kFree;
  if (block->retired) {
    end(*block);
  } else if (flows_) {
    free_.push_back(block);
  }
}

}  // namespace iio_bridge
