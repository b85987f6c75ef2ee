#include "reader.h"

#include <algorithm>
#include <cerrno>

namespace iio_bridge {

Reader::Reader(Capture& capture, Link* link, bool sinkByAio)
    : link_(link), capture_(capture), opened_(link), sinkByAio_(sinkByAio) {}

Reader::~Reader() {
  capture_.leave(*this);
  std::vector<std::shared_ptr<CaptureBlock>> blocks;
  for (const Sending& sending : sending_) blocks.push_back(sending.filled->block);
  for (const auto& block : blocks) {
    if (!abandon(block)) capture_.removeBlock(block);
  }
  if (link_ != nullptr) {
    for (const auto& entry : attached_) {
      if (entry.second == 0) link_->detach(entry.first->dmabuf.get());
    }
  }
  for (Entry& entry : backlog_) release(entry);
}

BlockRecord Reader::Entry::record() const {
  BlockRecord record = filled->record;
  record.lostSets += extraLost;
  if (dropped) record.flags |= kLossDropped;
  if (!isExact) record.flags &= ~kLossExact;
  return record;
}

void Reader::Entry::addLost(uint64_t sets, bool isMeasured) {
  extraLost += sets;
  dropped = true;
  isExact = isExact && isMeasured;
}

void Reader::offer(const FilledPtr& filled) {
  if (!accepts_) return;
  if (held_ >= capture_.holdLimit(own())) {
    if (capture_.policy() != RingPolicy::kDropOldest || !dropOldest()) {
      statistics_.droppedBlocks++;
      pending_.addLost(filled->record.lostSets + filled->bytes / capture_.setBytes(),
                       (filled->record.flags & kLossExact) != 0);
      return;
    }
  }
  filled->holders++;
  held_++;
  Entry entry = std::exchange(pending_, {});
  entry.filled = filled;
  backlog_.push_back(std::move(entry));
  serve();
}

void Reader::trim() {
  while (held_ > capture_.holdLimit(own()) && dropOldest()) {
  }
}

void Reader::noteUndelivered(uint64_t sets) {
  (backlog_.empty() ? pending_ : backlog_.front()).addLost(sets, true);
}

bool Reader::dropOldest() {
  if (backlog() == 0) return false;
  const auto oldest = backlog_.begin() + static_cast<ptrdiff_t>(pinned_);
  Entry entry = std::move(*oldest);
  const auto next = backlog_.erase(oldest);
  statistics_.droppedBlocks++;
  const BlockRecord record = entry.record();
  Entry& heir = next == backlog_.end() ? pending_ : *next;
  heir.addLost(record.lostSets + entry.filled->bytes / capture_.setBytes(), (record.flags & kLossExact) != 0);
  release(entry);
  return true;
}

void Reader::stopped() {
  while (backlog_.size() > pinned_) {
    release(backlog_.back());
    backlog_.pop_back();
  }
  pending_ = {};
}

void Reader::release(Entry& entry) {
  if (!entry.filled) return;
  held_--;
  const FilledPtr filled = std::move(entry.filled);
  entry.filled = nullptr;
  capture_.release(filled);
}

int Reader::attach(const CaptureBlock& block) {
  if (sinkByAio_) return -EOPNOTSUPP;
  const auto known = attached_.find(&block);
  if (known != attached_.end()) return known->second;
  const int error = block.dmabuf ? link_->attach(block.dmabuf.get()) : -ENOMEM;
  attached_[&block] = error;
  return error;
}

void Reader::detach(const CaptureBlock& block) {
  const auto known = attached_.find(&block);
  if (known == attached_.end()) return;
  if (known->second == 0 && link_ != nullptr) link_->detach(block.dmabuf.get());
  attached_.erase(known);
}

BlockPath Reader::pathOf(const CaptureBlock& block) {
  const bool isLinked = link_ != nullptr;
  const int refusal = isLinked ? -attach(block) : 0;
  const SinkKind mapped = isLinked ? link_->mappedSink() : SinkKind::kSocket;
  // A link without hardware of its own refuses nothing, nor does one that was told to copy.
  const int sinkErrno = sinkByAio_ || mapped == SinkKind::kSocket ? 0 : refusal;
  const SinkKind sink = isLinked && refusal == 0 ? SinkKind::kDmabuf : mapped;
  return {capture_.source(), sink, capture_.sourceErrno(), sinkErrno};
}

int Reader::transmit(std::vector<std::vector<uint8_t>> heads, const Entry& entry, size_t offset, size_t bytes,
                     bool isLast, std::function<void()> sent) {
  CaptureBlock& block = *entry.filled->block;
  // One endpoint at a time: a sync_file of a dmabuf holds the fences of all of them, so the later transfer would wait for the
  // earlier one, of another client, and fail with it.
  const bool byDmabuf = offset == 0 && attach(block) == 0 && block.transfer.expired();
  std::shared_ptr<const void> hold;
  if (byDmabuf) {
    hold = std::make_shared<char>();
    block.transfer = hold;
  } else {
    const int error = block.map();
    if (error != 0) return error;
  }
  const auto sending = sending_.insert(sending_.end(), {entry.filled, isLast});
  link_->sendBlock(std::move(heads), {entry.filled->block, offset, bytes, byDmabuf, std::move(hold)},
                   [this, sending, sent = std::move(sent)](int status) {
                     if (status != 0) return;
                     Entry done{sending->filled};
                     const bool wasLast = sending->isLast;
                     sending_.erase(sending);
                     if (wasLast) release(done);
                     sent();
                   });
  return 0;
}

bool Reader::abandon(const std::shared_ptr<CaptureBlock>& block) {
  bool isFree = true;
  if (link_ != nullptr) {
    // In this order: the fence of the transfer must be closed before the DETACH frees what it points to.
    isFree = link_->abandon(*block);
    detach(*block);
  }
  for (auto sending = sending_.begin(); sending != sending_.end();) {
    if (sending->filled->block != block) {
      ++sending;
      continue;
    }
    Entry entry{sending->filled};
    const bool wasLast = sending->isLast;
    sending = sending_.erase(sending);
    if (wasLast) release(entry);
  }
  return isFree;
}

void Reader::linkGone(const Link& link) {
  if (opened_ != &link) return;
  attached_.clear();
  for (Sending& sending : std::exchange(sending_, {})) {
    Entry entry{std::move(sending.filled)};
    if (sending.isLast) release(entry);
  }
}

}  // namespace iio_bridge
