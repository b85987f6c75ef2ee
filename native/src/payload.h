#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "block.h"

namespace iio_bridge {

/**
 * The samples behind a request: bytes of a link that go into a block's memory, or are thrown away. Keeps the block's memory
 * until they are there, whatever becomes of the block meanwhile: the client goes on sending what it has announced.
 */
struct Payload {
  std::shared_ptr<Block> block;  // none: thrown away
  size_t length = 0;
  /** The link's controller knows the block's dmabuf: attachReceiver(). */
  bool isAttached = false;
  /** Called once: 0 when all is there, or the negative errno why it will not be. */
  std::function<void(int status)> done;

  size_t placed = 0;         // bytes that have arrived, or that the hardware has been told where to put
  bool byHardware = false;   // some of those are still to come
  int status = 0;
  CpuAccess access;

  size_t left() const { return length - placed; }
  /** Where the byte after the next `ahead` ones goes; null where it is thrown away. */
  uint8_t* place(size_t ahead);
  void finish(int result);
};

}  // namespace iio_bridge
