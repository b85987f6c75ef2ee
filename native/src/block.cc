#include "block.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

void sync(int dmabuf, uint64_t flags) {
  if (dmabuf < 0) return;
  uapi::DmaBufSync request{flags};
  ::ioctl(dmabuf, uapi::kDmaBufSync, &request);
}

}  // namespace

int Block::map() {
  if (memory) return 0;
  memory = Mapping::create(dmabuf.get(), size);
  return memory ? 0 : -errno;
}

CpuAccess::CpuAccess(const Block& block, uint64_t direction)
    : begun_(true), dmabuf_(block.dmabuf.get()), direction_(direction) {
  sync(dmabuf_, uapi::kSyncStart | direction_);
}

CpuAccess& CpuAccess::operator=(CpuAccess&& other) noexcept {
  if (this == &other) return *this;
  end();
  begun_ = std::exchange(other.begun_, false);
  dmabuf_ = other.dmabuf_;
  direction_ = other.direction_;
  return *this;
}

void CpuAccess::end() {
  if (std::exchange(begun_, false)) sync(dmabuf_, uapi::kSyncEnd | direction_);
}

}  // namespace iio_bridge
