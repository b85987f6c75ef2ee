#include "block_reader.h"

#include <algorithm>
#include <cerrno>

#include "block_frames.h"

namespace iio_bridge {

BlockReader::BlockReader(Capture& capture, Link& link, const Options& options)
    : Reader(capture, &link, options.sinkByAio), options_(options) {
  link.addHandler(*this);
  capture.join(*this);
}

BlockReader::~BlockReader() {
  if (link_ != nullptr) link_->removeHandler(*this);
  capture().leave(*this);
  while (!slots_.empty()) freeBlock(slots_.begin()->first);
}

void BlockReader::unlink() {
  if (link_ != nullptr) link_->removeHandler(*this);
  Reader::unlink();
}

int BlockReader::createBlock(uint16_t index, uint16_t clientId, UniqueFd dmabuf, size_t size, BlockPath& path) {
  if (link_ == nullptr) return -ESHUTDOWN;
  if (slots_.count(index) != 0) return -EEXIST;
  auto slot = std::make_shared<Slot>();
  slot->index = index;
  slot->clientId = clientId;
  slot->size = size;
  const int error = capture().addBlock(std::move(dmabuf), size, slot->own);
  if (error != 0) return error;
  capture().addOwned(1);
  slots_[index] = slot;
  path = pathOf(*slot->own);
  return 0;
}

int BlockReader::freeBlock(uint16_t index) {
  const auto found = slots_.find(index);
  if (found == slots_.end()) return -EBADF;
  const SlotPtr slot = found->second;
  slots_.erase(found);
  giveUp(slot);
  detach(*slot->own);
  capture().removeBlock(slot->own);
  capture().addOwned(-1);
  return 0;
}

/** Takes back what a block that is to be freed is waiting for, or sends. */
void BlockReader::giveUp(const SlotPtr& slot) {
  waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), slot), waiting_.end());
  if (timed_ == slot.get()) timed_ = nullptr;
  if (!slot->entry.filled) return;
  const std::shared_ptr<CaptureBlock> block = slot->entry.filled->block;
  if (block != slot->own) {
    // While the capture flows, blocks change places: the one that this client still holds goes, not one that is in use.
    const auto other = std::find_if(slots_.begin(), slots_.end(), [&](const auto& s) { return s.second->own == block; });
    if (other != slots_.end()) std::swap(other->second->own, slot->own);
  }
  if (slot->state == State::kSending) {
    const bool isFree = abandon(block);
    slot->entry.filled = nullptr;
    if (!isFree && block != slot->own) capture().removeBlock(block);
  } else {
    release(slot->entry);
  }
}

void BlockReader::setActive(bool active) {
  accepts_ = active;
  if (active) {
    serve();
  } else if (capture().flows()) {
    Reader::stopped();
    failWaiting(-EINTR);
  }
}

/** Blocks that were requested before the buffer was enabled. */
void BlockReader::started() {
  fault_ = 0;
  if (capture().flows()) return;
  for (const SlotPtr& slot : std::deque<SlotPtr>(waiting_)) {
    if (slot->isEnqueued || enqueue(slot)) continue;
    waiting_.erase(std::remove(waiting_.begin(), waiting_.end(), slot), waiting_.end());
  }
}

void BlockReader::stopped() {
  if (!accepts_) return;
  Reader::stopped();
  failWaiting(-EINTR);
}

void BlockReader::failWaiting(int status) {
  for (const SlotPtr& slot : std::exchange(waiting_, {})) fail(slot, status);
}

bool BlockReader::handles(const FrameHeader& header) const {
  return (header.op == options_.transferOp || header.op == options_.retryOp) && header.dev == options_.device &&
         bufferIndexOf(header) == options_.buffer && slots_.count(blockIndexOf(header)) != 0;
}

size_t BlockReader::requestPayloadBytes(const FrameHeader& header) const {
  return header.op == options_.transferOp ? sizeof(uint64_t) : 0;
}

void BlockReader::handle(const FrameHeader& header, uint64_t bytesUsed) {
  const SlotPtr slot = slots_.at(blockIndexOf(header));
  header.op == options_.transferOp ? request(slot, bytesUsed) : retry(slot);
}

void BlockReader::request(const SlotPtr& slot, uint64_t bytes) {
  if (bytes == 0) return respond(*slot, -EINVAL);
  if (bytes > slot->size) return refuse(*slot, -EINVAL);
  if (slot->state == State::kSending && slot->nextRequest == 0) {
    // The client has the samples and asks again before the fence has told us so.
    slot->nextRequest = bytes;
    return;
  }
  if (slot->state != State::kIdle) return refuse(*slot, -EBUSY);
  slot->bytes = bytes;
  slot->answerOwed = true;
  slot->isEnqueued = false;
  if (!capture().flows() && capture().enabled() && !enqueue(slot)) return;
  slot->state = State::kWaiting;
  waiting_.push_back(slot);
  if (!capture().flows()) return;
  serve();
  if (!waiting_.empty()) capture().resume();
}

/** Gives the slot's own block to the hardware; false where that has been refused, and answered. */
bool BlockReader::enqueue(const SlotPtr& slot) {
  const int error = capture().enqueue(slot->own, slot->bytes);
  slot->isEnqueued = error == 0;
  if (error == 0) return true;
  slot->state = State::kIdle;
  slot->answerOwed = false;
  refuse(*slot, error);
  return false;
}

void BlockReader::retry(const SlotPtr& slot) {
  if (slot->answerOwed) return refuse(*slot, -EBUSY);
  switch (slot->state) {
    case State::kWaiting:
      slot->answerOwed = true;
      return;
    case State::kKept:
      slot->answerOwed = true;
      return send(slot);
    case State::kIdle:
    case State::kSending:
      return respond(*slot, -EPERM);
  }
}

void BlockReader::serve() {
  while (accepts_ && !backlog_.empty() && !waiting_.empty()) {
    const auto asked = std::find_if(waiting_.begin(), waiting_.end(), [this](const SlotPtr& slot) {
      return capture().flows() || slot->own == backlog_.front().filled->block;
    });
    if (asked == waiting_.end()) break;
    const SlotPtr slot = *asked;
    waiting_.erase(asked);
    if (timed_ == slot.get()) timed_ = nullptr;
    slot->entry = std::move(backlog_.front());
    backlog_.pop_front();
    if (slot->answerOwed) {
      send(slot);
    } else {
      slot->state = State::kKept;
    }
  }
  if (!capture().flows()) {
    // Filled for a request that there is no more.
    for (Entry& entry : std::exchange(backlog_, {})) release(entry);
  } else if (fault_ != 0 && backlog_.empty() && !waiting_.empty()) {
    const SlotPtr slot = waiting_.front();
    waiting_.pop_front();
    // What ended by the ring's policy stays ended; a failure of the source is told once.
    const int status = fault_ == -ENOBUFS ? fault_ : std::exchange(fault_, 0);
    fail(slot, status);
    if (fault_ != 0) return serve();
    if (!waiting_.empty()) capture().resumeSoon();
  }
}

void BlockReader::failed(int status, const CaptureBlock* block) {
  if (block == nullptr) {
    fault_ = status;
    return serve();
  }
  const auto found =
      std::find_if(waiting_.begin(), waiting_.end(), [block](const SlotPtr& slot) { return slot->own.get() == block; });
  if (found == waiting_.end()) return;
  const SlotPtr slot = *found;
  waiting_.erase(found);
  fail(slot, status);
}

void BlockReader::fail(const SlotPtr& slot, int status) {
  if (timed_ == slot.get()) timed_ = nullptr;
  slot->state = State::kIdle;
  slot->isEnqueued = false;
  if (std::exchange(slot->answerOwed, false)) respond(*slot, status);
}

void BlockReader::send(const SlotPtr& slot) {
  slot->state = State::kSending;
  slot->answerOwed = false;
  if (link_ == nullptr) return;
  const size_t bytes = std::min(slot->entry.filled->bytes, slot->bytes);
  if (bytes < slot->entry.filled->bytes) noteUndelivered((slot->entry.filled->bytes - bytes) / capture().setBytes());
  const uint8_t op = options_.metadata ? kBlockAnswerOp : 0;
  std::vector<uint8_t> head;
  append(head, FrameHeader{slot->clientId, op, 0, static_cast<int32_t>(bytes)});
  if (options_.metadata) append(head, slot->entry.record());
  std::vector<std::vector<uint8_t>> heads;
  heads.push_back(std::move(head));
  const int error = transmit(std::move(heads), slot->entry, 0, bytes, true, [this, slot, bytes] {
    statistics_.blocks++;
    statistics_.bytes += bytes;
    slot->entry.filled = nullptr;
    sent(slot);
  });
  if (error != 0) {
    release(slot->entry);
    slot->state = State::kIdle;
    respond(*slot, error);
  }
}

void BlockReader::sent(const SlotPtr& slot) {
  slot->state = State::kIdle;
  const uint64_t next = std::exchange(slot->nextRequest, 0);
  if (next != 0) request(slot, next);
}

void BlockReader::refuse(const Slot& slot, int error) { respond(slot, enqueueError(error)); }

void BlockReader::respond(const Slot& slot, int32_t code) {
  if (link_ != nullptr) link_->sendResponse(slot.clientId, code);
}

/**
 * Requests wait one after the other: each from when it is the first that waits, because until then the samples go to the
 * ones before it.
 */
Clock::time_point BlockReader::nextDeadline() {
  if (!accepts_ || !capture().enabled()) return Clock::time_point::max();
  const auto first = std::find_if(waiting_.begin(), waiting_.end(), [](const auto& slot) { return slot->answerOwed; });
  if (first == waiting_.end()) return Clock::time_point::max();
  if (timed_ != first->get()) {
    timed_ = first->get();
    deadline_ = deadlineAfter(options_.timeoutMs);
  }
  return deadline_;
}

void BlockReader::expire(Clock::time_point now) {
  if (nextDeadline() > now) return;
  const auto slot = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& s) { return s.get() == timed_; });
  timed_ = nullptr;
  (*slot)->answerOwed = false;
  statistics_.timeouts++;
  respond(**slot, -ETIMEDOUT);
}

}  // namespace iio_bridge
