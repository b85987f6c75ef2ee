#pragma once

#include <cstdint>
#include <utility>

#include "clock.h"
#include "fence.h"
#include "unique_fd.h"

namespace iio_bridge {

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
enum class SinkKind { kDmabuf, kAio, kSocket };

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
  /** A request that arrived while the last answer was on its way out; 0 = none. */
  uint64_t nextRequest = 0;

  /** Makes `memory` usable; 0 or a negative errno. */
  int map();
};

/** Frames the CPU's use of a block's mapping, so that caches are right; the block must outlive it. */
class CpuAccess {
 public:
  CpuAccess() = default;
  /** `direction`: uapi::kSyncRead or kSyncWrite. */
  CpuAccess(const Block& block, uint64_t direction);
  CpuAccess(CpuAccess&& other) noexcept
      : begun_(std::exchange(other.begun_, false)), dmabuf_(other.dmabuf_), direction_(other.direction_) {}
  CpuAccess& operator=(CpuAccess&& other) noexcept;
  ~CpuAccess() { end(); }

  explicit operator bool() const { return begun_; }

 private:
  void end();

  bool begun_ = false;
  int dmabuf_ = -1;
  uint64_t direction_ = 0;
};

}  // namespace iio_bridge
