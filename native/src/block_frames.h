#pragma once

#include <cstdint>
#include <vector>

#include "link.h"

namespace iio_bridge {

/** What is known of a block beside its samples, as it goes over the wire: docs/EXTENSIONS.md. */
struct BlockRecord {
  uint64_t sequence = 0;
  uint64_t capturedAtNs = 0;
  uint64_t lostSets = 0;
  uint64_t gapNs = 0;
  uint32_t epoch = 0;
  uint32_t flags = 0;
} __attribute__((packed));
static_assert(sizeof(BlockRecord) == 40);

constexpr uint32_t kLossExact = 1;
constexpr uint32_t kLossDropped = 2;

/** The op of an answer that carries a record. */
constexpr uint8_t kBlockAnswerOp = 0xe2;

inline uint16_t blockIndexOf(const FrameHeader& header) { return static_cast<uint32_t>(header.code) >> 16; }
inline uint16_t bufferIndexOf(const FrameHeader& header) { return static_cast<uint32_t>(header.code) & 0xffff; }

/** An error to give the block to the kernel stands in the upper half of the code, so that clients can tell it from one to
 * get it back. */
inline int32_t enqueueError(int error) { return static_cast<int32_t>(static_cast<uint32_t>(error) << 16); }

template <typename Value>
void append(std::vector<uint8_t>& bytes, const Value& value) {
  const auto* data = reinterpret_cast<const uint8_t*>(&value);
  bytes.insert(bytes.end(), data, data + sizeof value);
}

}  // namespace iio_bridge
