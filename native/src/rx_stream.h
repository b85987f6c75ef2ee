#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "block.h"
#include "link.h"
#include "poller.h"

namespace iio_bridge {

/** How a block's memory is known to the two sides, and why not better: errnos are 0 where nothing was refused. */
struct BlockPath {
  SourceKind source;
  SinkKind sink;
  int sourceErrno;
  int sinkErrno;
};

/** Totals since the stream was created. */
struct RxStatistics {
  uint64_t blocks = 0;  // answered with samples
  uint64_t bytes = 0;
  uint64_t sourceErrors = 0;   // transfers into memory that ended with an error
  uint64_t timeouts = 0;       // requests answered with -ETIMEDOUT
  uint64_t unfilledCount = 0;  // times at which the enabled buffer had no block to fill
  uint64_t unfilledNs = 0;     // and for how long in all
};

/**
 * The samples of one IIO buffer on their way to one link: owns the buffer's descriptor and the blocks.
 *
 * Rules of the kernel (Linux 6.12) that this class keeps, because breaking them loses memory or the machine:
 *  - Blocks are enqueued only while the buffer is enabled. Attaching a further dmabuf after an enqueue into a disabled
 *    buffer forgets the enqueued ones for ever, and what was enqueued but never enabled is filled whenever anybody
 *    enables the buffer next.
 *  - Once a dmabuf is attached, the descriptor is never read(): that dereferences freed memory. So the way into memory
 *    is chosen with the first block and kept.
 */
class RxStream : public FrameHandler, private PollClient {
 public:
  struct Options {
    uint8_t device = 0;
    uint16_t buffer = 0;
    uint8_t transferOp = 0;
    uint8_t retryOp = 0;
    int timeoutMs = 0;  // 0: wait for ever
    bool sourceByRead = false;
    bool sinkByAio = false;
  };

  RxStream(Link& link, UniqueFd iio, const Options& options);
  ~RxStream();

  /** 0 and `path`, or a negative errno: -EEXIST, -ENOMEM, or what the kernel says. `dmabuf` may be none. */
  int createBlock(uint16_t index, uint16_t clientId, UniqueFd dmabuf, size_t size, BlockPath& path);
  /** 0 or -EBADF. Whatever the block is doing ends at once. */
  int freeBlock(uint16_t index);
  /** The buffer has been enabled: what was requested is enqueued now. */
  void start();
  /** The buffer is about to be disabled: nothing is enqueued from here on. */
  void stop();
  void setTimeout(int ms) { options_.timeoutMs = ms; }
  /** The link is gone: nothing is sent any more. */
  void unlink() { link_ = nullptr; }
  Link* link() const { return link_; }

  bool handles(const FrameHeader& header) const override;
  size_t requestPayloadBytes(const FrameHeader& header) const override;
  void handle(const FrameHeader& header, uint64_t bytesUsed) override;

  void collect(Poller& poller);
  Clock::time_point nextDeadline();
  void expire(Clock::time_point now);
  RxStatistics statistics() const;

 private:
  using BlockPtr = std::shared_ptr<Block>;

  int attachSource(Block& block);
  void request(const BlockPtr& block, uint64_t bytes);
  void retry(const BlockPtr& block, uint16_t clientId);
  void fill(const BlockPtr& block);
  void filled(int status);
  void send(const BlockPtr& block);
  void sent(const BlockPtr& block);
  void readIntoHead();
  void refuse(const Block& block, int error);
  void stopWaiting(const Block& block);
  void noteQueueLength();
  void onReady(int fd) override;

  Link* link_;
  UniqueFd iio_;
  Options options_;
  SourceKind source_ = SourceKind::kDmabuf;
  int sourceErrno_ = 0;
  bool enabled_ = false;
  std::map<uint16_t, BlockPtr> blocks_;
  std::deque<BlockPtr> parked_;   // in the order of their requests
  std::deque<BlockPtr> filling_;  // in the order in which the source will fill them
  const Block* waiting_ = nullptr;  // the first of those whose request waits, and has a deadline
  Clock::time_point deadline_ = Clock::time_point::max();
  RxStatistics statistics_;
  Clock::time_point unfilledSince_ = Clock::time_point::max();
};

}  // namespace iio_bridge
