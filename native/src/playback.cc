#include "playback.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "uapi.h"

namespace iio_bridge {
Playback::Playback(UniqueFd iio, UniqueFd underflowCounter, const Options& options)
    : iio_(std::move(iio)), options_(options), counter_(std::move(underflowCounter)) {
  if (options.sinkByWrite) sink_ = PlaySink::kWrite;
}

Playback::~Playback() {
  endWriting(-EBADF);
  endDraining(-EBADF);
  endCycle();
  while (!blocks_.empty()) freeBlock(blocks_.begin()->first);
  for (const BlockPtr& piece : playing_) {
    piece->fence.close();
    detachSink(*piece);
  }
  if (link_ != nullptr) link_->removeHandler(*this);
}

void Playback::connect(Link& link) {
  if (link_ == &link) return;
  if (link_ != nullptr) {
    link_->removeHandler(*this);
    for (const auto& entry : blocks_) detachSource(entry.second);
  }
  link_ = &link;
  link.addHandler(*this);
  for (const auto& entry : blocks_) attachSource(*entry.second);
}

void Playback::unlinkFrom(const Link& link) {
  if (link_ != &link) return;
  link_ = nullptr;
  for (const auto& entry : blocks_) entry.second->usbAttached = false;
  if (!writer_.receiving) endWriting(-ESHUTDOWN);
}

int Playback::attachSink(OutBlock& block, bool isFirst) {
  if (sink_ == PlaySink::kWrite) return 0;
  int error = -ENOMEM;
  if (block.dmabuf) {
    int fd = block.dmabuf.get();
    error = ::ioctl(iio_.get(), uapi::kIioDmabufAttach, &fd) == 0 ? 0 : -errno;
  }
  block.iioAttached = error == 0;
  if (error == 0 || !isFirst) return error;
  sink_ = PlaySink::kWrite;
  sinkErrno_ = -error;
  return 0;
}

void Playback::detachSink(OutBlock& block) {
  if (!std::exchange(block.iioAttached, false)) return;
  int fd = block.dmabuf.get();
  ::ioctl(iio_.get(), uapi::kIioDmabufDetach, &fd);
}

void Playback::attachSource(OutBlock& block) {
  if (link_ == nullptr) return;
  int error = 0;
  if (!options_.sourceByCopy) {
    error = block.dmabuf ? -link_->attachReceiver(block.dmabuf.get()) : ENOMEM;
    block.usbAttached = error == 0;
  }
  const bool isSocket = link_->mappedSink() == SinkKind::kSocket;
  source_ = block.usbAttached ? PlaySource::kDmabuf : isSocket ? PlaySource::kSocket : PlaySource::kAio;
  // A link without hardware of its own refuses nothing.
  sourceErrno_ = isSocket ? 0 : error;
}

void Playback::detachSource(const BlockPtr& block) {
  if (std::exchange(block->usbAttached, false) && link_ != nullptr) link_->detachReceiver(block);
}

int Playback::createBlock(uint16_t index, uint16_t clientId, UniqueFd dmabuf, size_t size) {
  if (blocks_.count(index) != 0) return -EEXIST;
  const auto block = std::make_shared<OutBlock>();
  block->index = index;
  block->clientId = clientId;
  block->dmabuf = std::move(dmabuf);
  block->size = size;
  const int error = attachSink(*block, blocks_.empty());
  if (error != 0) return error;
  attachSource(*block);
  blocks_[index] = block;
  // Elsewhere the CPU has no need to see the samples, but for a client that sends them with its request.
  if (sink_ == PlaySink::kWrite || !block->usbAttached) {
    if (const int mapError = block->map()) {
      freeBlock(index);
      return mapError;
    }
  }
  return 0;
}

int Playback::freeBlock(uint16_t index) {
  const BlockPtr block = find(index);
  if (!block) return -EBADF;
  blocks_.erase(index);
  if (cycle_ && cycle_->index == index) endCycle();
  stopWaiting(*block);
  requested_.erase(std::remove(requested_.begin(), requested_.end(), block), requested_.end());
  // What is half written is written to its end, so that whole sample sets follow each other.
  if (block->written == 0) {
    playing_.erase(std::remove(playing_.begin(), playing_.end(), block), playing_.end());
  }
  if (const auto payload = std::exchange(block->payload, nullptr)) {
    // The client still sends it, and is told then.
    payload->done = [link = link_, clientId = block->clientId, owed = block->owed](int status) {
      if (owed && link != nullptr && status >= 0) link->sendResponse(clientId, enqueueError(-EBADF));
    };
  }
  block->owed = false;
  block->timedOut = false;
  if (block->received) std::exchange(block->received, nullptr)(-ECANCELED);
  block->fence.close();
  detachSource(block);
  detachSink(*block);
  return 0;
}

Playback::BlockPtr Playback::find(uint16_t index) const {
  const auto found = blocks_.find(index);
  return found == blocks_.end() ? nullptr : found->second;
}

void Playback::start(double setsPerSecond) {
  setsPerSecond_ = setsPerSecond;
  if (std::exchange(enabled_, true)) return;
  disabledByOthers_ = false;
  epoch_++;
  sequence_ = 0;
  lastEndNs_ = 0;
  countIsKnown_ = counter_.read(lastCount_);
  if (cycle_ && enqueueCycle() != 0) endCycle();
  playWaiting();
}

void Playback::stop() { enabled_ = false; }

void Playback::settle() {
  if (enabled_) return;
  if (sink_ == PlaySink::kDmabuf) onReady(-1);
  while (sink_ == PlaySink::kWrite && !playing_.empty()) {
    const BlockPtr head = playing_.front();
    playing_.pop_front();
    played(head, -EINTR, 0);
  }
  // In the order of their requests; what is still being received is played when the buffer is enabled again.
  const std::deque<BlockPtr> requested = requested_;
  for (const BlockPtr& block : requested) {
    if (block->state != PlayState::kWaiting) continue;
    requested_.erase(std::find(requested_.begin(), requested_.end(), block));
    played(block, -EINTR, 0);
  }
}

bool Playback::handles(const FrameHeader& header) const {
  return (header.op == options_.transferOp || header.op == options_.retryOp) && header.op != 0 &&
         header.dev == options_.device && bufferIndexOf(header) == options_.buffer && find(blockIndexOf(header));
}

size_t Playback::requestPayloadBytes(const FrameHeader& header) const {
  return header.op == options_.transferOp ? sizeof(uint64_t) : 0;
}

void Playback::handle(const FrameHeader& header, uint64_t bytesUsed) {
  const BlockPtr block = find(blockIndexOf(header));
  if (header.op == options_.transferOp) {
    transfer(block, bytesUsed);
  } else {
    retry(block);
  }
}

void Playback::transfer(const BlockPtr& block, uint64_t bytes) {
  // Nothing follows: hosts read such an answer as one of the dequeue.
  if (bytes == 0) return answer(*block, -EINVAL);
  if (bytes > options_.maxPayloadBytes) return link_->close(-EPROTO);
  const int error = refusal(*block, bytes);
  if (error == 0) {
    block->owed = true;
    requested_.push_back(block);
    return receiveInto(block, bytes);
  }
  const auto unwanted = std::make_shared<Payload>();
  unwanted->length = bytes;
  unwanted->done = [link = link_, clientId = block->clientId, error](int status) {
    if (status >= 0) link->sendResponse(clientId, enqueueError(error));
  };
  link_->receivePayload(unwanted);
}

/** 0, or why the block cannot be played now. */
int Playback::refusal(const OutBlock& block, uint64_t bytes) const {
  if (bytes > block.size || bytes < options_.sampleBytes) return -EINVAL;
  return block.state != PlayState::kIdle || cycle_ ? -EBUSY : 0;
}

void Playback::receiveInto(const BlockPtr& block, size_t bytes) {
  block->state = PlayState::kReceiving;
  block->bytes = bytes - bytes % options_.sampleBytes;
  block->written = 0;
  block->timedOut = false;
  const auto payload = std::make_shared<Payload>();
  payload->block = block;
  payload->length = bytes;
  payload->isAttached = block->usbAttached;
  payload->done = [this, block](int status) { arrived(block, status); };
  block->payload = payload;
  link_->receivePayload(payload);
}

void Playback::arrived(const BlockPtr& block, int status) {
  block->payload = nullptr;
  block->state = status < 0 ? PlayState::kIdle : PlayState::kWaiting;
  if (status < 0) {
    requested_.erase(std::remove(requested_.begin(), requested_.end(), block), requested_.end());
    if (std::exchange(block->owed, false)) answer(*block, enqueueError(status));
  }
  if (block->received) std::exchange(block->received, nullptr)(status);
  playWaiting();
}

void Playback::playWaiting() {
  while (enabled_ && !requested_.empty() && requested_.front()->state == PlayState::kWaiting) {
    const BlockPtr block = requested_.front();
    requested_.pop_front();
    const int error = enqueue(block);
    if (error == 0) continue;
    block->state = PlayState::kIdle;
    if (std::exchange(block->owed, false)) {
      answer(*block, enqueueError(error));
    } else {
      writeError_ = error;
    }
  }
  if (sink_ == PlaySink::kWrite && enabled_) writeHead();
}

int Playback::giveToHardware(OutBlock& block) {
  uapi::IioDmabuf request{static_cast<uint32_t>(block.dmabuf.get()), 0, block.bytes};
  int error = ::ioctl(iio_.get(), uapi::kIioDmabufEnqueue, &request) == 0 ? 0 : -errno;
  if (error == -EBUSY) {
    // Of a transfer that could not be submitted.
    detachSink(block);
    error = attachSink(block, false);
    if (error == 0 && ::ioctl(iio_.get(), uapi::kIioDmabufEnqueue, &request) != 0) error = -errno;
  }
  if (error != 0) return error;
  block.fence = Fence::exportFrom(block.dmabuf.get(), uapi::kSyncWrite);
  return block.fence ? 0 : -errno;
}

int Playback::enqueue(const BlockPtr& block) {
  if (disabledByOthers_) return -EINTR;
  if (sink_ == PlaySink::kDmabuf) {
    if (const int error = giveToHardware(*block)) {
      statistics_.sinkErrors++;
      return error;
    }
  }
  block->enqueuedNs = monotonicNs();
  block->written = 0;
  block->state = PlayState::kPlaying;
  playing_.push_back(block);
  return 0;
}

void Playback::collect(Poller& poller) {
  if (playing_.empty()) return;
  if (sink_ == PlaySink::kDmabuf) {
    poller.add(playing_.front()->fence.fd(), POLLIN, *this);
  } else if (enabled_) {
    poller.add(iio_.get(), POLLOUT, *this);
  }
}

void Playback::onReady(int) {
  if (sink_ == PlaySink::kWrite) return writeHead();
  while (!playing_.empty()) {
    const BlockPtr head = playing_.front();
    uint64_t endedAtNs = 0;
    const int status = head->fence.status(endedAtNs);
    if (status == 0) return;
    head->fence.close();
    playing_.pop_front();
    played(head, status > 0 ? 0 : status, endedAtNs);
  }
}

void Playback::writeHead() {
  while (enabled_ && !playing_.empty()) {
    const BlockPtr head = playing_.front();
    const ssize_t count =
        ::write(iio_.get(), head->memory.data() + head->written, head->bytes - head->written);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    const int error = count < 0 ? -errno : 0;
    if (count == 0) return;
    if (error == 0) head->written += static_cast<size_t>(count);
    if (error == 0 && head->written < head->bytes) continue;
    playing_.pop_front();
    played(head, error, 0);
  }
}

/** The sink is done with a block that is in no queue any more. */
void Playback::played(const BlockPtr& block, int status, uint64_t endedAtNs) {
  stopWaiting(*block);
  block->written = 0;
  if (status < 0) {
    statistics_.sinkErrors++;
    // Somebody else has disabled the buffer: what is enqueued from here on would never end, and its memory with it.
    if (status == -EINTR && enabled_) disabledByOthers_ = true;
  } else {
    account(*block, endedAtNs);
  }
  if (block->cycle != 0) {
    block->state = PlayState::kIdle;
    return playedPiece(block, status);
  }
  if (std::exchange(block->owed, false)) {
    block->state = PlayState::kIdle;
    answer(*block, status);
  } else if (block->timedOut) {
    block->state = PlayState::kKept;
    block->result = status;
  } else {
    block->state = PlayState::kIdle;
    if (status < 0 && status != -EINTR) writeError_ = status;
    writeOn();
    if (requested_.empty() && playing_.empty()) endDraining(0);
  }
}

void Playback::account(OutBlock& block, uint64_t endedAtNs) {
  const uint64_t now = monotonicNs();
  // A fence that was over before it could be exported says nothing about when.
  if (endedAtNs < block.enqueuedNs || endedAtNs > now || endedAtNs <= lastEndNs_) endedAtNs = now;
  statistics_.blocks++;
  statistics_.bytes += block.bytes;
  block.record = {};
  block.record.sequence = sequence_++;
  block.record.epoch = epoch_;
  // Where samples are written, nothing tells when the kernel's queue was empty.
  block.record.flags = sink_ == PlaySink::kDmabuf ? kLossExact : 0;
  block.record.capturedAtNs = clockNs(CLOCK_REALTIME) - (now - endedAtNs);
  const bool isGap = sink_ == PlaySink::kDmabuf && lastEndNs_ != 0 && block.enqueuedNs > lastEndNs_;
  if (isGap) {
    block.record.gapNs = block.enqueuedNs - lastEndNs_;
    uint64_t count = 0;
    if (countIsKnown_ && counter_.read(count)) {
      block.record.lostSets = count - lastCount_;
      lastCount_ = count;
    } else {
      block.record.lostSets = static_cast<uint64_t>(static_cast<double>(block.record.gapNs) * setsPerSecond_ / 1e9);
      block.record.flags = 0;
    }
    statistics_.underruns++;
    statistics_.underrunNs += block.record.gapNs;
    statistics_.unplayedSets += block.record.lostSets;
  }
  lastEndNs_ = endedAtNs;
}

void Playback::playedPiece(const BlockPtr& piece, int status) {
  if (cycle_ && piece->cycle == cycle_->id) {
    // One that was cut off goes on when the buffer is enabled again.
    if (status == 0 && enabled_ && enqueue(piece) != 0) endCycle();
    return;
  }
  leaveCycle(*piece);
  writeOn();
}

/** What of it is with the hardware is played to its end; what is half written, to the end of the cycle. */
void Playback::endCycle() {
  const std::optional<Cycle> ended = std::exchange(cycle_, std::nullopt);
  if (!ended) return;
  for (const BlockPtr& piece : ended->pieces) {
    const size_t rest = piece->written % ended->bytes;
    if (rest > 0) {
      piece->bytes = piece->written + ended->bytes - rest;
    } else if (sink_ == PlaySink::kWrite || piece->state != PlayState::kPlaying) {
      playing_.erase(std::remove(playing_.begin(), playing_.end(), piece), playing_.end());
      piece->state = PlayState::kIdle;
      leaveCycle(*piece);
    }
  }
}

void Playback::leaveCycle(OutBlock& piece) {
  piece.cycle = 0;
  // The client's own block goes on being one.
  if (find(piece.index).get() != &piece) detachSink(piece);
}

void Playback::retry(const BlockPtr& block) {
  if (block->owed) return answer(*block, -EBUSY);
  switch (block->state) {
    case PlayState::kKept:
      block->state = PlayState::kIdle;
      block->timedOut = false;
      return answer(*block, block->result);
    case PlayState::kIdle:
      return answer(*block, -EPERM);
    case PlayState::kReceiving:
    case PlayState::kWaiting:
    case PlayState::kPlaying:
      if (block->cycle != 0) return answer(*block, -EPERM);
      block->owed = true;
      block->timedOut = false;
  }
}

void Playback::answer(const OutBlock& block, int32_t code) {
  if (link_ == nullptr) return;
  if (!options_.records || code != 0) return link_->sendResponse(block.clientId, code);
  std::vector<uint8_t> bytes;
  append(bytes, FrameHeader{block.clientId, kBlockAnswerOp, 0, code});
  append(bytes, block.record);
  link_->send(std::move(bytes));
}

void Playback::write(size_t bytes, int timeoutMs, Written written) {
  if (writer_.written) return written(-EBUSY, 0);
  if (link_ == nullptr) return written(-ESHUTDOWN, 0);
  writer_ = {};
  writer_.left = bytes;
  writer_.timeoutMs = timeoutMs;
  writer_.written = std::move(written);
  writeOn();
}

void Playback::writeOn() {
  // What it calls may call it, once per block of what the link holds already.
  if (writingOn_) return;
  writingOn_ = true;
  while (writer_.written && !writer_.receiving) {
    if (writeError_ != 0) {
      endWriting(std::exchange(writeError_, 0));
      break;
    }
    if (writer_.left == 0) {
      endWriting(0);
      break;
    }
    const BlockPtr block = idleBlock();
    if (!block) {
      if (writer_.deadline == Clock::time_point::max()) writer_.deadline = deadlineAfter(writer_.timeoutMs);
      break;
    }
    writer_.deadline = Clock::time_point::max();
    const size_t piece = std::min(writer_.left, block->size - block->size % options_.sampleBytes);
    writer_.receiving = true;
    block->received = [this, piece](int status) {
      writer_.receiving = false;
      if (status < 0) return endWriting(status);
      writer_.left -= piece;
      writer_.taken += piece;
      writeOn();
    };
    requested_.push_back(block);
    receiveInto(block, piece);
  }
  writingOn_ = false;
}

void Playback::endWriting(int status) {
  writer_.deadline = Clock::time_point::max();
  if (writer_.written) std::exchange(writer_.written, nullptr)(status, writer_.taken);
}

void Playback::drain(int timeoutMs, Done drained) {
  if (drained_) return drained(-EBUSY);
  drained_ = std::move(drained);
  drainDeadline_ = deadlineAfter(timeoutMs);
  if (requested_.empty() && playing_.empty()) endDraining(0);
}

void Playback::endDraining(int status) {
  drainDeadline_ = Clock::time_point::max();
  if (drained_) std::exchange(drained_, nullptr)(status);
}

Playback::BlockPtr Playback::idleBlock() const {
  const auto found = std::find_if(blocks_.begin(), blocks_.end(),
                                  [](const auto& entry) {
    return entry.second->state == PlayState::kIdle && entry.second->cycle == 0;
  });
  return found == blocks_.end() ? nullptr : found->second;
}

void Playback::receive(uint16_t index, size_t bytes, Done done) {
  const BlockPtr block = find(index);
  if (!block) return done(-EBADF);
  if (link_ == nullptr) return done(-ESHUTDOWN);
  if (bytes > block->size || bytes < options_.sampleBytes) return done(-EINVAL);
  const bool playsBlocks = !playing_.empty() && playing_.front()->cycle == 0;
  if (block->state != PlayState::kIdle || block->cycle != 0 || !requested_.empty() || playsBlocks) return done(-EBUSY);
  if (const int error = block->map()) return done(error);
  block->received = std::move(done);
  receiveInto(block, bytes);
}

int Playback::repeat(uint16_t index, std::vector<UniqueFd> spares, size_t size) {
  const BlockPtr block = find(index);
  if (!block || block->state != PlayState::kWaiting || block->bytes == 0 || size < block->bytes) return -EINVAL;
  Cycle cycle;
  cycle.id = ++lastCycle_;
  cycle.index = index;
  cycle.bytes = block->bytes;
  block->state = PlayState::kIdle;
  if (sink_ == PlaySink::kDmabuf && spares.size() == 1) cycle.pieces.push_back(block);
  if (spares.empty()) spares.emplace_back();
  int error = 0;
  for (UniqueFd& spare : spares) {
    const auto piece = std::make_shared<OutBlock>();
    piece->index = index;
    piece->dmabuf = std::move(spare);
    piece->size = size;
    cycle.pieces.push_back(piece);
    error = attachSink(*piece, false);
    if (error == 0) error = fillPiece(*piece, *block);
    if (error != 0) break;
  }
  endCycle();
  for (const BlockPtr& piece : cycle.pieces) piece->cycle = cycle.id;
  cycle_ = std::move(cycle);
  if (error == 0 && enabled_) error = enqueueCycle();
  if (error != 0) endCycle();
  return error;
}

int Playback::enqueueCycle() {
  for (const BlockPtr& piece : cycle_->pieces) {
    if (const int error = enqueue(piece)) return error;
  }
  if (sink_ == PlaySink::kWrite) writeHead();
  return 0;
}

/** As many whole cycles as fit. */
int Playback::fillPiece(OutBlock& piece, OutBlock& block) {
  if (const int error = piece.map()) return error;
  if (const int error = block.map()) return error;
  const CpuAccess reading(block, uapi::kSyncRead);
  const CpuAccess writing(piece, uapi::kSyncWrite);
  for (piece.bytes = 0; piece.bytes + block.bytes <= piece.size; piece.bytes += block.bytes) {
    std::memcpy(piece.memory.data() + piece.bytes, block.memory.data(), block.bytes);
  }
  return 0;
}

/** Requests wait one after the other: as RxStream's. */
Clock::time_point Playback::nextDeadline() {
  const auto first = std::find_if(playing_.begin(), playing_.end(), [](const auto& block) { return block->owed; });
  const auto others = std::min(writer_.deadline, drainDeadline_);
  if (first == playing_.end()) return others;
  if (waiting_ != first->get()) {
    waiting_ = first->get();
    deadline_ = deadlineAfter(options_.timeoutMs);
  }
  return std::min(deadline_, others);
}

void Playback::expire(Clock::time_point now) {
  nextDeadline();
  if (writer_.deadline <= now) endWriting(-ETIMEDOUT);
  if (drainDeadline_ <= now) endDraining(-ETIMEDOUT);
  const auto block = std::find_if(playing_.begin(), playing_.end(), [&](const auto& b) { return b.get() == waiting_; });
  if (block == playing_.end() || deadline_ > now) return;
  const BlockPtr late = *block;
  stopWaiting(*late);
  late->owed = false;
  late->timedOut = true;
  statistics_.timeouts++;
  answer(*late, -ETIMEDOUT);
}

void Playback::stopWaiting(const OutBlock& block) {
  if (waiting_ == &block) waiting_ = nullptr;
}

}  // namespace iio_bridge
