#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "block.h"
#include "block_frames.h"
#include "clock.h"
#include "fence.h"
#include "link.h"
#include "loss_counter.h"
#include "poller.h"

namespace iio_bridge {

/**
 * Where a block of an output is.
 *
 *   idle ──request──▶ receiving ──all samples there──▶ waiting ──buffer enabled──▶ playing ──played──▶ idle
 *                                                                                     └──time-out, answered──▶ kept
 *
 * idle       nobody but us has it; the kernel is given no block in any other state
 * receiving  its samples are on their way into it
 * waiting    until the buffer is enabled, or until those requested before it have their samples
 * playing    queued to the IIO buffer, or being written to it
 * kept       played, but its answer was a time-out: waits for RETRY_DEQUEUE
 */
enum class PlayState { kIdle, kReceiving, kWaiting, kPlaying, kKept };

/** How a block's bytes get from the link into it, and from it to the IIO buffer. */
enum class PlaySource { kDmabuf, kAio, kSocket };
enum class PlaySink { kDmabuf, kWrite };

/** How an output's samples travel, and why not better: errnos are 0 where nothing was refused. */
struct PlayPath {
  PlaySource source;
  PlaySink sink;
  int sourceErrno;
  int sinkErrno;
};

/** Totals since the playback was created. */
struct PlayStatistics {
  uint64_t blocks = 0;  // played; a cycle counts whenever a piece of it was
  uint64_t bytes = 0;
  uint64_t sinkErrors = 0;
  uint64_t timeouts = 0;     // requests answered with -ETIMEDOUT
  /**
   * Times at which the enabled buffer, having begun, had no block to play until the next one; unknown, thus 0, where samples
   * are written: they go into a queue of the kernel's.
   */
  uint64_t underruns = 0;
  uint64_t underrunNs = 0;    // and for how long in all
  uint64_t unplayedSets = 0;  // sample sets that were not played meanwhile
};

/**
 * The samples of links on their way to one IIO buffer: owns the buffer's descriptor and the blocks.
 *
 * Two kinds of clients feed it. Block requests of the link that it was made for are executed as they come (FrameHandler);
 * write() takes bytes of any length from any link, block by block. Either may have a block repeated.
 *
 * The kernel's rules are those of RxStream: blocks are enqueued only while the buffer is enabled, and the way into the
 * buffer is chosen with the first block and kept. One comes on top: the CYCLIC flag of ENQUEUE is never used, because
 * Linux 6.12 accepts and ignores it on buffers with a DMA engine. Two blocks with the same content take turns instead: one
 * is played while the other is being enqueued anew.
 */
class Playback : public FrameHandler, private PollClient {
 public:
  struct Options {
    uint8_t device = 0;
    uint16_t buffer = 0;
    uint8_t transferOp = 0;
    uint8_t retryOp = 0;
    int timeoutMs = 0;  // 0: wait for ever
    size_t sampleBytes = 1;
    size_t maxPayloadBytes = 0;  // a request with more is not worth reading to its end
    bool sinkByWrite = false;
    bool sourceByCopy = false;
    bool records = false;  // answers of played blocks carry a record: see docs/EXTENSIONS.md
  };
  using Done = std::function<void(int status)>;
  /** 0 or a negative errno, and how many bytes were taken from the link. */
  using Written = std::function<void(int status, size_t taken)>;

  /** `underflowCounter`: may be none. */
  Playback(UniqueFd iio, UniqueFd underflowCounter, const Options& options);
  ~Playback();

  /** The link that block requests come from and answers go to; its controller is told of the blocks there are. */
  void connect(Link& link);
  /** The link is going: nothing is sent to it, or received, any more. */
  void unlinkFrom(const Link& link);

  /** 0, or a negative errno: -EEXIST, -ENOMEM, or what the kernel says. `dmabuf` may be none. */
  int createBlock(uint16_t index, uint16_t clientId, UniqueFd dmabuf, size_t size);
  /** 0 or -EBADF. Samples that are on their way into the block are thrown away when they come. */
  int freeBlock(uint16_t index);
  PlayPath path() const { return {source_, sink_, sourceErrno_, sinkErrno_}; }

  /** The buffer has been enabled: what waits is enqueued now. `setsPerSecond` may be 0: unknown. */
  void start(double setsPerSecond);
  /** The buffer is about to be disabled: nothing is enqueued from here on. */
  void stop();
  /** The buffer has been disabled: what was not played is answered with -EINTR. */
  void settle();
  void setTimeout(int ms) { options_.timeoutMs = ms; }

  /**
   * Takes `bytes` bytes, whole sample sets, from the link connected to, block by block; each waits at most `timeoutMs` for
   * one that is idle. One call at a time: -EBUSY.
   */
  void write(size_t bytes, int timeoutMs, Written written);
  /** Hears 0 once all that has arrived is played, or with the time-out -ETIMEDOUT. One call at a time: -EBUSY. */
  void drain(int timeoutMs, Done drained);
  /**
   * Takes the bytes of one block from the link, for repeat(). -EBADF, -EINVAL, -EBUSY, -ENOMEM: nothing was taken; -ECANCELED:
   * the block has been freed, and what is still to come of them is thrown away.
   */
  void receive(uint16_t index, size_t bytes, Done done);
  /**
   * Plays the block, which was received, again and again in place of a cycle that there may be. `spares`: memory of `size`
   * bytes each, for as many cycles as fit. With one of them the block itself takes turns; none stands for ordinary memory,
   * for what is written.
   */
  int repeat(uint16_t index, std::vector<UniqueFd> spares, size_t size);

  bool handles(const FrameHeader& header) const override;
  size_t requestPayloadBytes(const FrameHeader& header) const override;
  void handle(const FrameHeader& header, uint64_t bytesUsed) override;

  void collect(Poller& poller);
  Clock::time_point nextDeadline();
  void expire(Clock::time_point now);
  const PlayStatistics& statistics() const { return statistics_; }

 private:
  struct OutBlock : Block {
    uint16_t index = 0;
    uint16_t clientId = 0;
    bool iioAttached = false;
    bool usbAttached = false;
    PlayState state = PlayState::kIdle;
    std::shared_ptr<Payload> payload;  // while it is receiving
    Done received;                     // who hears of its end, if it was asked for by receive() or write()
    Fence fence;
    size_t bytes = 0;    // to be played
    size_t written = 0;  // write() so far
    int result = 0;      // of a kept one
    bool owed = false;   // a request waits for an answer
    bool timedOut = false;  // it has got one, which was a time-out
    uint32_t cycle = 0;     // of whose pieces it is one; 0: none
    uint64_t enqueuedNs = 0;  // CLOCK_MONOTONIC
    BlockRecord record;
  };
  using BlockPtr = std::shared_ptr<OutBlock>;
  /** Pieces of whole cycles that take turns. */
  struct Cycle {
    std::vector<BlockPtr> pieces;
    uint32_t id = 0;
    uint16_t index = 0;
    size_t bytes = 0;  // of one cycle
  };
  struct Writer {
    size_t left = 0;
    size_t taken = 0;
    int timeoutMs = 0;
    Clock::time_point deadline = Clock::time_point::max();
    Written written;
    bool receiving = false;
  };

  int attachSink(OutBlock& block, bool isFirst);
  void attachSource(OutBlock& block);
  void detachSource(const BlockPtr& block);
  void detachSink(OutBlock& block);
  BlockPtr find(uint16_t index) const;
  void transfer(const BlockPtr& block, uint64_t bytes);
  void retry(const BlockPtr& block);
  int refusal(const OutBlock& block, uint64_t bytes) const;
  void receiveInto(const BlockPtr& block, size_t bytes);
  void arrived(const BlockPtr& block, int status);
  void playWaiting();
  int enqueue(const BlockPtr& block);
  int giveToHardware(OutBlock& block);
  int enqueueCycle();
  void endCycle();
  void leaveCycle(OutBlock& piece);
  void played(const BlockPtr& block, int status, uint64_t endedAtNs);
  void account(OutBlock& block, uint64_t endedAtNs);
  void playedPiece(const BlockPtr& piece, int status);
  void answer(const OutBlock& block, int32_t code);
  void writeHead();
  void writeOn();
  void endWriting(int status);
  void endDraining(int status);
  BlockPtr idleBlock() const;
  static int fillPiece(OutBlock& piece, OutBlock& block);
  void stopWaiting(const OutBlock& block);
  void onReady(int fd) override;

  Link* link_ = nullptr;
  UniqueFd iio_;
  Options options_;
  PlaySource source_ = PlaySource::kAio;
  PlaySink sink_ = PlaySink::kDmabuf;
  int sourceErrno_ = 0;
  int sinkErrno_ = 0;
  bool enabled_ = false;
  bool disabledByOthers_ = false;
  double setsPerSecond_ = 0;
  std::map<uint16_t, BlockPtr> blocks_;
  std::deque<BlockPtr> requested_;  // receiving or waiting, in the order in which they are to be played
  std::deque<BlockPtr> playing_;    // in the order in which the sink will have played them
  std::optional<Cycle> cycle_;
  uint32_t lastCycle_ = 0;
  Writer writer_;
  bool writingOn_ = false;
  Done drained_;
  Clock::time_point drainDeadline_ = Clock::time_point::max();
  int writeError_ = 0;  // of a block that nobody waited for: the next write() hears of it
  const OutBlock* waiting_ = nullptr;  // the first of those whose request waits, and has a deadline
  Clock::time_point deadline_ = Clock::time_point::max();
  uint64_t lastEndNs_ = 0;  // of the last block that was played since the start; 0: none was
  LossCounter counter_;
  bool countIsKnown_ = false;
  uint64_t lastCount_ = 0;
  PlayStatistics statistics_;
  uint64_t sequence_ = 0;
  uint32_t epoch_ = 0;
};

}  // namespace iio_bridge
