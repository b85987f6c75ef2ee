#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "block.h"
#include "block_frames.h"
#include "clock.h"
#include "fence.h"
#include "loss_counter.h"
#include "poller.h"
#include "unique_fd.h"

namespace iio_bridge {

class Reader;

/** What becomes of samples when every block waits for a reader. */
enum class RingPolicy { kDropNewest, kDropOldest, kStop };

/**
 * A block of a capture. The kernel is never given a block twice in the same role: ENQUEUE only of a free one, and a
 * reader transfers a held one at most once.
 *
 *   free ──ENQUEUE, or next to be read() into──▶ filling ──source done──▶ held ──last reader lets go──▶ free
 *                                                   └── source failed, or the buffer was stopped ──▶ free
 */
struct CaptureBlock : Block {
  enum class State { kFree, kFilling, kHeld };

  bool iioAttached = false;
  /** Its owner has given it up: it ends when nobody holds it. */
  bool retired = false;
  State state = State::kFree;
  Fence fence;
  std::weak_ptr<const void> transfer;  // of the hardware of a link; while it is queued or under way
  size_t bytes = 0;         // to be filled
  size_t filled = 0;        // read() so far
  uint64_t enqueuedNs = 0;  // CLOCK_MONOTONIC; 0: when others were still waiting to be filled
  bool isDone = false;      // ended before the ones that were enqueued before it
  int status = 0;
};

/** A filled block in the hands of readers. */
struct Filled {
  std::shared_ptr<CaptureBlock> block;
  size_t bytes = 0;
  BlockRecord record;
  unsigned holders = 0;
};
using FilledPtr = std::shared_ptr<Filled>;

/** Totals since the capture was created. */
struct CaptureStatistics {
  uint64_t blocks = 0;  // filled
  uint64_t bytes = 0;
  uint64_t sourceErrors = 0;  // transfers into memory that ended with an error
  uint64_t overruns = 0;      // times at which the enabled buffer had no block to fill
  uint64_t gapNs = 0;         // and for how long in all
  uint64_t lostSets = 0;      // sample sets lost meanwhile
};

/**
 * The samples of one IIO buffer: owns the buffer's descriptor and the blocks that it fills, hands every filled block to
 * every reader, and takes it back when the last of them has let go.
 *
 * A single reader's requests are what is captured, unless it asks for more: each block is given to the hardware when it
 * is requested, in the order of the requests. Otherwise the capture flows: every free block is with the hardware for as
 * long as the buffer is enabled, whoever asks for what.
 *
 * Rules of the kernel (Linux 6.12) that this class keeps, because breaking them loses memory or the machine:
 *  - Blocks are enqueued only while the buffer is enabled. Attaching a further dmabuf after an enqueue into a disabled
 *    buffer forgets the enqueued ones for ever, and what was enqueued but never enabled is filled whenever anybody
 *    enables the buffer next.
 *  - Once a dmabuf is attached, the descriptor is never read(): that dereferences freed memory. So the way into memory
 *    is chosen with the first block and kept.
 *  - A block whose transfer could not be submitted stays busy until it is detached: see enqueue().
 */
class Capture : private PollClient {
 public:
  using BlockPtr = std::shared_ptr<CaptureBlock>;

  struct Options {
    bool byRead = false;
    /** Of a sample set. */
    size_t setBytes = 1;
    /** Where in a sample set its time stamp is, s64 little-endian in ns; -1: it has none. */
    int timestampOffset = -1;
    bool flows = false;
    /** With read(): only while a reader waits. What comes meanwhile is for the kernel's FIFO to keep. */
    bool onDemand = false;
    RingPolicy policy = RingPolicy::kDropNewest;
  };

  /** What holds from one enable to the next disable. */
  struct Run {
    double samplingHz = 0;  // 0: not known
    /** What the kernel keeps by itself while nobody reads, in sample sets; only of read(). */
    double fifoSets = 0;
    /** The source waits for its reader, and loses nothing. */
    bool isLossless = false;
  };

  /** `overflowCounter`: a file whose text is the number of sample sets that the device has lost so far; may be none. */
  Capture(UniqueFd iio, UniqueFd overflowCounter, const Options& options);
  ~Capture();

  /**
   * Adds a block. 0 or a negative errno: -ENOMEM, or what the kernel says when it takes no further block. The first block
   * decides between dmabufs and read().
   */
  int addBlock(UniqueFd dmabuf, size_t size, BlockPtr& added);
  /**
   * Nobody holds it, or everybody has been told to forget it: whatever the hardware does with it ends, but for what other
   * readers count on.
   */
  void removeBlock(BlockPtr block);

  SourceKind source() const { return source_; }
  /** Why it is not the better one; 0 where nothing was refused. */
  int sourceErrno() const { return sourceErrno_; }

  /** The buffer has been enabled: blocks are given to it from here on. */
  void start(const Run& run);
  /** The buffer is about to be disabled: nothing is enqueued from here on. */
  void stop();
  bool enabled() const { return enabled_; }
  bool flows() const { return flows_; }

  void join(Reader& reader);
  void leave(Reader& reader);

  /** For a reader whose requests are what is captured. 0 or a negative errno. */
  int enqueue(const BlockPtr& block, size_t bytes);
  void release(const FilledPtr& filled);
  /** A reader waits: capturing goes on after a failure, at once or with the loop's next turn. */
  void resume();
  void resumeSoon() { retryAt_ = Clock::now(); }
  /** How many blocks `reader` may hold, so that the others always have some to go on with; `own` of all are its own. */
  size_t holdLimit(size_t own) const;
  void addOwned(ptrdiff_t blocks) { owned_ = static_cast<size_t>(static_cast<ptrdiff_t>(owned_) + blocks); }
  RingPolicy policy() const { return options_.policy; }
  size_t setBytes() const { return options_.setBytes; }

  void collect(Poller& poller);
  Clock::time_point nextDeadline() const { return retryAt_; }
  void expire();

  CaptureStatistics statistics() const { return statistics_; }
  const CaptureBlock& anyBlock() const { return *blocks_.front(); }
  size_t blockCount() const { return blocks_.size(); }
  /** Blocks that are captured and wait for a reader to want them: of the one that has most. */
  size_t waiting() const;

 private:
  int attach(CaptureBlock& block);
  void detach(CaptureBlock& block);
  void end(CaptureBlock& block);
  void becomeFree(const BlockPtr& block);
  void replenish();
  bool isToRead();
  bool makeRoom();
  bool mayMeasure() const;
  void drain();
  void completeDone();
  void completed(int status, uint64_t endedAtNs);
  BlockRecord account(CaptureBlock& block, uint64_t endedAtNs);
  uint64_t realtimeOf(uint64_t monotonic);
  bool readCounted(uint64_t& counted);
  bool accountCounted(uint64_t endedAtNs, BlockRecord& record);
  void accountMeasured(CaptureBlock& block, uint64_t gapNs, BlockRecord& record);
  void failed(int status);
  void halt();
  void readIntoHead();
  bool readTimestamp(CaptureBlock& block, size_t offset, int64_t& value) const;
  void noteLastTimestamp(CaptureBlock& block);
  void onReady(int fd) override;

  UniqueFd iio_;
  LossCounter counter_;
  Options options_;
  Run run_;
  SourceKind source_ = SourceKind::kDmabuf;
  int sourceErrno_ = 0;
  bool hadDmabufs_ = false;  // so that it must not be read() any more
  bool flows_;
  bool enabled_ = false;
  bool faulted_ = false;
  bool halted_ = false;
  bool disabledByOthers_ = false;
  bool isReading_ = false;
  std::vector<BlockPtr> blocks_;
  std::deque<BlockPtr> free_;     // of those that are to flow
  std::deque<BlockPtr> filling_;  // in the order in which the source will fill them
  std::vector<Reader*> readers_;
  size_t owned_ = 0;  // blocks that some reader brought along
  Clock::time_point retryAt_ = Clock::time_point::max();

  uint64_t clocksReadNs_ = 0;
  uint64_t clockDifferenceNs_ = 0;  // CLOCK_REALTIME less CLOCK_MONOTONIC

  uint32_t epoch_ = 0;
  uint64_t sequence_ = 0;
  uint64_t position_ = 0;    // bytes captured since the buffer was enabled
  uint64_t lastEndNs_ = 0;   // when the block before was done; 0: there was none
  uint64_t lastCount_ = 0;   // of the overflow counter
  bool countIsKnown_ = false;
  uint64_t countedForNext_ = 0;  // but lost before a block that is not filled yet
  /** The source was at the next block when the counter was last read: what had been lost before it was in there. */
  bool nextHasBegun_ = false;
  bool lastTimestampIsKnown_ = false;
  int64_t lastTimestamp_ = 0;
  CaptureStatistics statistics_;
};

}  // namespace iio_bridge
