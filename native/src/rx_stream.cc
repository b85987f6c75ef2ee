#include "rx_stream.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

uint16_t blockIndexOf(const FrameHeader& header) { return static_cast<uint32_t>(header.code) >> 16; }
uint16_t bufferIndexOf(const FrameHeader& header) { return static_cast<uint32_t>(header.code) & 0xffff; }

/** An error to give the block to the kernel stands in the upper half of the code, so that clients can tell it from one to
 * get it back. */
int32_t enqueueError(int error) { return static_cast<int32_t>(static_cast<uint32_t>(error) << 16); }

}  // namespace

RxStream::RxStream(Link& link, UniqueFd iio, const Options& options)
    : link_(&link), iio_(std::move(iio)), options_(options) {
  if (options.sourceByRead) source_ = SourceKind::kRead;
}

RxStream::~RxStream() {
  while (!blocks_.empty()) freeBlock(blocks_.begin()->first);
}

int RxStream::attachSource(Block& block) {
  if (source_ == SourceKind::kRead) return 0;
  int error = -ENOMEM;
  if (block.dmabuf) {
    int fd = block.dmabuf.get();
    error = ::ioctl(iio_.get(), uapi::kIioDmabufAttach, &fd) == 0 ? 0 : -errno;
  }
  if (error == 0) {
    block.iioAttached = true;
    return 0;
  }
  if (!blocks_.empty()) return error;
  source_ = SourceKind::kRead;
  sourceErrno_ = -error;
  return 0;
}

int RxStream::createBlock(uint16_t index, uint16_t clientId, UniqueFd dmabuf, size_t size, BlockPath& path) {
  if (link_ == nullptr) return -ESHUTDOWN;
  if (blocks_.count(index) != 0) return -EEXIST;
  auto block = std::make_shared<Block>();
  block->index = index;
  block->clientId = clientId;
  block->dmabuf = std::move(dmabuf);
  block->size = size;
  const int error = attachSource(*block);
  if (error != 0) return error;
  int sinkErrno = 0;
  if (!options_.sinkByAio) {
    sinkErrno = block->dmabuf ? -link_->attach(block->dmabuf.get()) : ENOMEM;
    block->usbAttached = sinkErrno == 0;
  }
  block->sink = block->usbAttached ? SinkKind::kDmabuf : link_->mappedSink();
  // A link without hardware of its own refuses nothing.
  if (block->sink == SinkKind::kSocket) sinkErrno = 0;
  if (source_ == SourceKind::kRead || block->sink != SinkKind::kDmabuf) {
    block->memory = Mapping::create(block->dmabuf.get(), size);
    if (!block->memory) {
      const int mapError = -errno;
      blocks_[index] = block;
      freeBlock(index);
      return mapError;
    }
  }
  blocks_[index] = block;
  path = {source_, block->sink, sourceErrno_, sinkErrno};
  return 0;
}

int RxStream::freeBlock(uint16_t index) {
  const auto found = blocks_.find(index);
  if (found == blocks_.end()) return -EBADF;
  const BlockPtr block = found->second;
  blocks_.erase(found);
  filling_.erase(std::remove(filling_.begin(), filling_.end(), block), filling_.end());
  parked_.erase(std::remove(parked_.begin(), parked_.end(), block), parked_.end());
  stopWaiting(*block);
  block->sourceFence.close();
  if (link_ != nullptr) {
    // In this order: the fence of the transfer must be closed before the DETACH frees what it points to.
    if (block->state == BlockState::kSending) link_->abandon(*block);
    if (block->usbAttached) link_->detach(block->dmabuf.get());
  }
  if (block->iioAttached) {
    int fd = block->dmabuf.get();
    ::ioctl(iio_.get(), uapi::kIioDmabufDetach, &fd);
  }
  noteQueueLength();
  return 0;
}

void RxStream::start() {
  enabled_ = true;
  for (; !parked_.empty(); parked_.pop_front()) fill(parked_.front());
  noteQueueLength();
}

void RxStream::stop() {
  enabled_ = false;
  noteQueueLength();
}

bool RxStream::handles(const FrameHeader& header) const {
  return (header.op == options_.transferOp || header.op == options_.retryOp) && header.dev == options_.device &&
         bufferIndexOf(header) == options_.buffer && blocks_.count(blockIndexOf(header)) != 0;
}

size_t RxStream::requestPayloadBytes(const FrameHeader& header) const {
  return header.op == options_.transferOp ? sizeof(uint64_t) : 0;
}

void RxStream::handle(const FrameHeader& header, uint64_t bytesUsed) {
  const BlockPtr block = blocks_.at(blockIndexOf(header));
  if (header.op == options_.transferOp) {
    request(block, bytesUsed);
  } else {
    retry(block, block->clientId);
  }
}

void RxStream::request(const BlockPtr& block, uint64_t bytes) {
  if (bytes == 0) return link_->sendResponse(block->clientId, -EINVAL);
  if (bytes > block->size) return refuse(*block, -EINVAL);
  if (block->state == BlockState::kSending && block->nextRequest == 0) {
    // The client has the samples and asks again before the fence has told us so.
    block->nextRequest = bytes;
    return;
  }
  if (block->state != BlockState::kIdle) return refuse(*block, -EBUSY);
  block->bytes = bytes;
  block->filled = 0;
  block->answerOwed = true;
  if (enabled_) {
    fill(block);
    noteQueueLength();
  } else {
    block->state = BlockState::kParked;
    parked_.push_back(block);
  }
}

void RxStream::retry(const BlockPtr& block, uint16_t clientId) {
  if (block->answerOwed) return refuse(*block, -EBUSY);
  switch (block->state) {
    case BlockState::kFilling:
    case BlockState::kParked:
      block->answerOwed = true;
      return;
    case BlockState::kKept:
      block->answerOwed = true;
      return send(block);
    case BlockState::kIdle:
    case BlockState::kSending:
      return link_->sendResponse(clientId, -EPERM);
  }
}

void RxStream::fill(const BlockPtr& block) {
  if (source_ == SourceKind::kDmabuf) {
    uapi::IioDmabuf enqueue{static_cast<uint32_t>(block->dmabuf.get()), 0, block->bytes};
    int error = ::ioctl(iio_.get(), uapi::kIioDmabufEnqueue, &enqueue) == 0 ? 0 : -errno;
    if (error == 0) {
      block->sourceFence = Fence::exportFrom(block->dmabuf.get(), uapi::kSyncRead);
      if (!block->sourceFence) error = -errno;
    }
    if (error != 0) {
      block->state = BlockState::kIdle;
      return refuse(*block, error);
    }
  }
  block->state = BlockState::kFilling;
  filling_.push_back(block);
}

void RxStream::refuse(const Block& block, int error) {
  if (link_ != nullptr) link_->sendResponse(block.clientId, enqueueError(error));
}

void RxStream::collect(Poller& poller) {
  if (filling_.empty()) return;
  if (source_ == SourceKind::kDmabuf) {
    poller.add(filling_.front()->sourceFence.fd(), POLLIN, *this);
  } else if (enabled_) {
    poller.add(iio_.get(), POLLIN, *this);
  }
}

void RxStream::onReady(int) {
  if (source_ == SourceKind::kRead) return readIntoHead();
  while (!filling_.empty()) {
    const int status = filling_.front()->sourceFence.status();
    if (status == 0) return;
    filled(status > 0 ? 0 : status);
  }
}

void RxStream::readIntoHead() {
  while (!filling_.empty()) {
    Block& block = *filling_.front();
    CpuAccess access(block, uapi::kSyncWrite);
    const ssize_t count = ::read(iio_.get(), block.memory.data() + block.filled, block.bytes - block.filled);
    const int error = count < 0 ? errno : 0;
    access = {};
    if (error == EAGAIN || error == EINTR) return;
    if (count <= 0) return filled(error != 0 ? -error : -EIO);
    block.filled += static_cast<size_t>(count);
    if (block.filled == block.bytes) filled(0);
  }
}

/** The source is done with the block at the head of its queue. */
void RxStream::filled(int status) {
  const BlockPtr block = filling_.front();
  filling_.pop_front();
  stopWaiting(*block);
  block->sourceFence.close();
  noteQueueLength();
  if (status < 0) {
    statistics_.sourceErrors++;
    block->state = BlockState::kIdle;
    if (block->answerOwed && link_ != nullptr) link_->sendResponse(block->clientId, status);
    block->answerOwed = false;
  } else if (block->answerOwed) {
    send(block);
  } else {
    block->state = BlockState::kKept;
  }
}

void RxStream::send(const BlockPtr& block) {
  block->state = BlockState::kSending;
  block->answerOwed = false;
  if (link_ == nullptr) return;
  const FrameHeader header{block->clientId, 0, 0, static_cast<int32_t>(block->bytes)};
  link_->sendBlock(header, block, [this, block](int status) {
    if (status == 0) sent(block);
  });
}

void RxStream::sent(const BlockPtr& block) {
  statistics_.blocks++;
  statistics_.bytes += block->bytes;
  block->state = BlockState::kIdle;
  const uint64_t next = std::exchange(block->nextRequest, 0);
  if (next != 0) request(block, next);
}

/**
 * Requests wait one after the other: each from when it is the first that waits, because until then the samples go to the
 * blocks before it.
 */
Clock::time_point RxStream::nextDeadline() {
  const auto first = std::find_if(filling_.begin(), filling_.end(), [](const auto& block) { return block->answerOwed; });
  if (first == filling_.end()) return Clock::time_point::max();
  if (waiting_ != first->get()) {
    waiting_ = first->get();
    deadline_ = deadlineAfter(options_.timeoutMs);
  }
  return deadline_;
}

void RxStream::expire(Clock::time_point now) {
  if (nextDeadline() > now) return;
  const auto block = std::find_if(filling_.begin(), filling_.end(), [&](const auto& b) { return b.get() == waiting_; });
  stopWaiting(**block);
  (*block)->answerOwed = false;
  statistics_.timeouts++;
  if (link_ != nullptr) link_->sendResponse((*block)->clientId, -ETIMEDOUT);
}

void RxStream::stopWaiting(const Block& block) {
  if (waiting_ == &block) waiting_ = nullptr;
}

void RxStream::noteQueueLength() {
  const bool unfilled = enabled_ && filling_.empty() && !blocks_.empty();
  if (unfilled && unfilledSince_ == Clock::time_point::max()) {
    unfilledSince_ = Clock::now();
    statistics_.unfilledCount++;
  } else if (!unfilled && unfilledSince_ != Clock::time_point::max()) {
    statistics_.unfilledNs += static_cast<uint64_t>((Clock::now() - unfilledSince_).count());
    unfilledSince_ = Clock::time_point::max();
  }
}

RxStatistics RxStream::statistics() const {
  RxStatistics now = statistics_;
  if (unfilledSince_ != Clock::time_point::max()) {
    now.unfilledNs += static_cast<uint64_t>((Clock::now() - unfilledSince_).count());
  }
  return now;
}

}  // namespace iio_bridge
