#include "fence.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

// A block is written to by one transfer; more than a few fences mean that somebody else uses it.
constexpr uint32_t kFencesAtMost = 4;

}  // namespace

Fence Fence::exportFrom(int dmabuf, uint64_t usage) {
  uapi::DmaBufExportSyncFile request{static_cast<uint32_t>(usage), -1};
  Fence fence;
  if (::ioctl(dmabuf, uapi::kDmaBufExportSyncFile, &request) == 0) fence.file_.reset(request.fd);
  return fence;
}

int Fence::status() const {
  uapi::SyncFileInfo info{};
  if (::ioctl(file_.get(), uapi::kSyncIocFileInfo, &info) != 0) return -errno;
  return info.status;
}

int Fence::status(uint64_t& endedAtNs) const {
  endedAtNs = 0;
  uapi::SyncFenceInfo fences[kFencesAtMost]{};
  uapi::SyncFileInfo info{};
  info.num_fences = kFencesAtMost;
  info.sync_fence_info = reinterpret_cast<uintptr_t>(fences);
  if (::ioctl(file_.get(), uapi::kSyncIocFileInfo, &info) != 0) return status();
  for (uint32_t i = 0; i < info.num_fences && i < kFencesAtMost; i++) {
    endedAtNs = std::max(endedAtNs, fences[i].timestamp_ns);
  }
  return info.status;
}

}  // namespace iio_bridge
