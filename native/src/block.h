#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "unique_fd.h"

namespace iio_bridge {

/** How a block's bytes get from the IIO buffer into it, and from it to the link. */
enum class SourceKind { kDmabuf, kRead };
enum class SinkKind { kDmabuf, kAio, kSocket };

/** Owns a piece of memory for samples: a dmabuf, or ordinary memory where there is none. */
struct Block {
  UniqueFd dmabuf;
  size_t size = 0;
  /** Only where the CPU has to touch the samples: see map(). */
  Mapping memory;

  /** Makes `memory` usable; 0 or a negative errno. */
  int map();
};

/** Bytes of a block that are to be sent. */
struct BlockPart {
  std::shared_ptr<Block> block;
  size_t offset;
  size_t bytes;
  /** By the hardware, which knows the dmabuf and begins at its start; otherwise out of the mapping, which must exist. */
  bool byDmabuf;
  /** Kept for as long as the part is queued or under way. */
  std::shared_ptr<const void> hold{};
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
