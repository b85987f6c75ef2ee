#include "payload.h"

#include <utility>

#include "uapi.h"

namespace iio_bridge {

uint8_t* Payload::place(size_t ahead) {
  if (!block) return nullptr;
  if (!access) {
    status = block->map();
    if (status < 0) {
      block = nullptr;
      return nullptr;
    }
    access = CpuAccess(*block, uapi::kSyncWrite);
  }
  return block->memory.data() + placed + ahead;
}

void Payload::finish(int result) {
  access = {};
  if (done) std::exchange(done, nullptr)(result < 0 ? result : status);
}

}  // namespace iio_bridge
