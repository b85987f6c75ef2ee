#include "fence.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "uapi.h"

namespace iio_bridge {

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

}  // namespace iio_bridge
