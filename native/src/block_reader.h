#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "reader.h"

namespace iio_bridge {

/**
 * A client of the binary protocol: answers the block requests that arrive on its link.
 *
 * Where a block of the client's is. Each is a block of the capture, too; while that flows, the client gets whichever was
 * filled next, in the order of its requests.
 *
 *   idle ──request──▶ waiting ──filled──▶ sending ──sent──▶ idle
 *                        └──time-out, answered; then filled──▶ kept ──RETRY_DEQUEUE──▶ sending
 */
class BlockReader : public Reader, private FrameHandler {
 public:
  struct Options {
    uint8_t device = 0;
    uint16_t buffer = 0;
    uint8_t transferOp = 0;
    uint8_t retryOp = 0;
    int timeoutMs = 0;  // 0: wait for ever
    bool sinkByAio = false;
    /** Answers carry a record: docs/EXTENSIONS.md. */
    bool metadata = false;
  };

  BlockReader(Capture& capture, Link& link, const Options& options);
  ~BlockReader() override;

  /** 0 and `path`, or a negative errno: -EEXIST, -ESHUTDOWN, or what Capture::addBlock says. `dmabuf` may be none. */
  int createBlock(uint16_t index, uint16_t clientId, UniqueFd dmabuf, size_t size, BlockPath& path);
  /** 0 or -EBADF. Whatever the block is doing ends at once. */
  int freeBlock(uint16_t index);
  /**
   * Whether requests are served; to be set before the capture is started. Who shares a capture ends by this alone: what is
   * requested then is answered with -EINTR.
   */
  void setActive(bool active);
  void setTimeout(int ms) { options_.timeoutMs = ms; }

  void started() override;
  void stopped() override;
  bool wants() const override { return accepts_ && !waiting_.empty(); }
  void failed(int status, const CaptureBlock* block) override;
  Clock::time_point nextDeadline() override;
  void expire(Clock::time_point now) override;

 private:
  enum class State { kIdle, kWaiting, kKept, kSending };
  struct Slot {
    uint16_t index = 0;
    uint16_t clientId = 0;
    size_t size = 0;
    std::shared_ptr<CaptureBlock> own;
    State state = State::kIdle;
    size_t bytes = 0;  // wanted
    bool answerOwed = false;
    bool isEnqueued = false;  // its own block is with the hardware
    /** A request that arrived while the last answer was on its way out; 0 = none. */
    uint64_t nextRequest = 0;
    Entry entry;
  };
  using SlotPtr = std::shared_ptr<Slot>;

  bool handles(const FrameHeader& header) const override;
  size_t requestPayloadBytes(const FrameHeader& header) const override;
  void handle(const FrameHeader& header, uint64_t bytesUsed) override;

  void unlink() override;
  void serve() override;
  size_t own() const override { return slots_.size(); }
  void request(const SlotPtr& slot, uint64_t bytes);
  void retry(const SlotPtr& slot);
  bool enqueue(const SlotPtr& slot);
  void fail(const SlotPtr& slot, int status);
  void failWaiting(int status);
  void send(const SlotPtr& slot);
  void sent(const SlotPtr& slot);
  void refuse(const Slot& slot, int error);
  void respond(const Slot& slot, int32_t code);
  void giveUp(const SlotPtr& slot);

  Options options_;
  int fault_ = 0;  // what the next request that waits is answered with
  std::map<uint16_t, SlotPtr> slots_;
  std::deque<SlotPtr> waiting_;  // in the order of their requests
  const Slot* timed_ = nullptr;  // the first of those whose request waits, and has a deadline
  Clock::time_point deadline_ = Clock::time_point::max();
};

}  // namespace iio_bridge
