#pragma once

#include <chrono>
#include <cstdint>

#include "fence.h"
#include "unique_fd.h"

namespace iio_bridge {

/**
 * The monotonic clock as of the last turn of the data plane's loop: a system call a turn at most, where reading it for
 * every block would cost several.
 */
class Clock {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  static time_point now() {
    if (!current_) now_ = std::chrono::steady_clock::now();
    current_ = true;
    return now_;
  }
  /** The next now() reads the clock anew. */
  static void nextTurn() { current_ = false; }

 private:
  static inline thread_local time_point now_;
  static inline thread_local bool current_ = false;
};

/**
 * Where a block is. The kernel is never given a block twice in the same role: a second FunctionFS TRANSFER of a dmabuf
 * whose first one is pending is a use after free in Linux 6.12, so every ioctl below is guarded by this state.
 *
 *   idle ──request──▶ parked ──buffer enabled──▶ filling ──source done──▶ sending ──sink done──▶ idle
 *                                                   └──time-out, answered──▶ kept (until RETRY_DEQUEUE)
 *
 * idle     nobody but us has it
 * parked   requested by the client; the buffer is not enabled yet
 * filling  queued to the IIO buffer (or next to be read() into)
 * kept     filled, but its answer was a time-out: waits for RETRY_DEQUEUE
 * sending  its answer is queued to the link
 */
enum class BlockState { kIdle, kParked, kFilling, kKept, kSending };

/** How a block's bytes get from the IIO buffer into it, and from it to the link. */
enum class SourceKind { kDmabuf, kRead };
enum class SinkKind { kDmabuf, kAio };

/** Owns a piece of memory that the IIO buffer fills and the link sends. */
struct Block {
  uint16_t index = 0;
  uint16_t clientId = 0;
  UniqueFd dmabuf;
  size_t size = 0;
  Mapping memory;  // only where the CPU has to touch the samples
  SinkKind sink = SinkKind::kAio;
  bool iioAttached = false;
  bool usbAttached = false;

  BlockState state = BlockState::kIdle;
  Fence sourceFence;
  size_t bytes = 0;   // wanted by the client
  size_t filled = 0;  // read() so far
  bool answerOwed = false;
  Clock::time_point deadline = Clock::time_point::max();
  /** A request that arrived while the last answer was on its way out; 0 = none. */
  uint64_t nextRequest = 0;
};

}  // namespace iio_bridge
