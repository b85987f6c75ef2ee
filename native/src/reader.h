#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "capture.h"
#include "link.h"

namespace iio_bridge {

/** How a block's memory is known to the two sides, and why not better: errnos are 0 where nothing was refused. */
struct BlockPath {
  SourceKind source;
  SinkKind sink;
  int sourceErrno;
  int sinkErrno;
};

/** What has become of a reader's blocks since it joined. */
struct ReaderStatistics {
  uint64_t blocks = 0;  // delivered, whole or in pieces
  uint64_t bytes = 0;
  uint64_t timeouts = 0;
  uint64_t droppedBlocks = 0;  // captured, but not fetched in time
};

/**
 * One consumer of a capture: holds the filled blocks that it has not delivered yet, and those that are on their way out
 * of its link. It lets go of a block once the link has sent it.
 */
class Reader {
 public:
  /** `link` may be none, and may go before the reader: see unlinkFrom(). */
  Reader(Capture& capture, Link* link, bool sinkByAio);
  virtual ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Of the capture.

  virtual void started() {}
  virtual void stopped();
  /** A block has been filled. Whoever keeps it counts as a holder. */
  void offer(const FilledPtr& filled);
  /** The source has failed with a negative errno; `block`: what was to be filled, where only one reader wanted it. */
  virtual void failed(int status, const CaptureBlock* block) = 0;
  /** Whether a request waits for samples that have not been captured yet. */
  virtual bool wants() const = 0;
  /** A block is no longer the capture's, and nobody holds it. */
  void forget(const CaptureBlock& block) { detach(block); }
  /** Gives up what it holds beyond its share, the oldest first. */
  void trim();
  /** Gives up the block that has waited longest: false where none waits. */
  bool dropOldest();
  size_t backlog() const { return backlog_.size() - pinned_; }

  // Of the data plane.

  virtual Clock::time_point nextDeadline() = 0;
  virtual void expire(Clock::time_point now) = 0;
  void unlinkFrom(const Link& link) {
    if (link_ == &link) unlink();
  }
  /** Nothing is left of the link: what it was sending is free. */
  void linkGone(const Link& link);

  ReaderStatistics statistics() const { return statistics_; }
  Capture& capture() const { return capture_; }

 protected:
  /** A filled block, and what this reader lost before it. */
  struct Entry {
    FilledPtr filled;
    uint64_t extraLost = 0;
    bool dropped = false;
    bool isExact = true;  // what is known of `extraLost`

    BlockRecord record() const;
    /** Captured sets that the reader does not get are lost before this entry. */
    void addLost(uint64_t sets, bool isMeasured);
  };

  /** Something has been added to `backlog_`. */
  virtual void serve() = 0;
  /** Nothing is sent any more. */
  virtual void unlink() { link_ = nullptr; }
  /** Blocks that it brought along. */
  virtual size_t own() const = 0;

  void release(Entry& entry);
  /** Captured sets that the reader does not get: the record of what is delivered next says so. */
  void noteUndelivered(uint64_t sets);
  /**
   * Sends `bytes` of the entry from `offset` on, behind `heads`; 0, or a negative errno where the block cannot be mapped.
   * `sent` is called when it is out, and the reader lets go of it if `isLast`.
   */
  int transmit(std::vector<std::vector<uint8_t>> heads, const Entry& entry, size_t offset, size_t bytes, bool isLast,
               std::function<void()> sent);
  /** Ends what is being sent of a block; false where the link goes on with it, so that nobody may fill it again. */
  bool abandon(const std::shared_ptr<CaptureBlock>& block);
  /** 0 where the link's hardware takes the block, otherwise a negative errno; asks once per block. */
  int attach(const CaptureBlock& block);
  void detach(const CaptureBlock& block);
  BlockPath pathOf(const CaptureBlock& block);
  size_t sending() const { return sending_.size(); }

  Link* link_;
  /** Whether filled blocks are for this reader at the moment. */
  bool accepts_ = false;
  std::deque<Entry> backlog_;
  /** Of the first ones that wait: what has been delivered in part, and is not given up. */
  size_t pinned_ = 0;
  ReaderStatistics statistics_;
  size_t held_ = 0;

 private:
  struct Sending {
    FilledPtr filled;
    bool isLast;
  };

  Capture& capture_;
  const Link* const opened_;  // to be compared only
  bool sinkByAio_;
  std::list<Sending> sending_;
  std::map<const CaptureBlock*, int> attached_;
  Entry pending_;  // without a block: what is lost before the next one
};

}  // namespace iio_bridge
