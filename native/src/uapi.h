#pragma once

// The kernel interfaces of the data plane, declared here because distributions' headers lag behind the kernels that have
// them: FunctionFS DMABUF is in Linux 6.9, IIO DMABUF in 6.11.

#include <linux/ioctl.h>

#include <cstdint>

namespace iio_bridge::uapi {

// include/uapi/linux/usb/functionfs.h
struct FfsDmabufTransfer {
  int32_t fd;
  uint32_t flags;
  uint64_t length;
} __attribute__((packed));
static_assert(sizeof(FfsDmabufTransfer) == 16);

constexpr unsigned long kFfsFifoFlush = _IO('g', 2);
constexpr unsigned long kFfsDmabufAttach = _IOW('g', 131, int);
constexpr unsigned long kFfsDmabufDetach = _IOW('g', 132, int);
constexpr unsigned long kFfsDmabufTransfer = _IOW('g', 133, FfsDmabufTransfer);
static_assert(kFfsDmabufAttach == 0x40046783 && kFfsDmabufTransfer == 0x40106785);

struct FfsEvent {
  uint8_t setup[8];
  uint8_t type;
  uint8_t pad[3];
} __attribute__((packed));
static_assert(sizeof(FfsEvent) == 12);

enum FfsEventType : uint8_t { kFfsUnbind = 1, kFfsDisable = 3, kFfsSetup = 4 };

// include/uapi/linux/iio/buffer.h
struct IioDmabuf {
  uint32_t fd;
  uint32_t flags;
  uint64_t bytes_used;
};
static_assert(sizeof(IioDmabuf) == 16);

constexpr unsigned long kIioDmabufAttach = _IOW('i', 0x92, int);
constexpr unsigned long kIioDmabufDetach = _IOW('i', 0x93, int);
constexpr unsigned long kIioDmabufEnqueue = _IOW('i', 0x94, IioDmabuf);
static_assert(kIioDmabufAttach == 0x40046992 && kIioDmabufEnqueue == 0x40106994);

// include/uapi/linux/dma-buf.h
struct DmaBufSync {
  uint64_t flags;
};
static_assert(sizeof(DmaBufSync) == 8);

struct DmaBufExportSyncFile {
  uint32_t flags;
  int32_t fd;
};
static_assert(sizeof(DmaBufExportSyncFile) == 8);

constexpr uint64_t kSyncRead = 1;
constexpr uint64_t kSyncWrite = 2;
constexpr uint64_t kSyncStart = 0;
constexpr uint64_t kSyncEnd = 4;
constexpr unsigned long kDmaBufSync = _IOW('b', 0, DmaBufSync);
constexpr unsigned long kDmaBufExportSyncFile = _IOWR('b', 2, DmaBufExportSyncFile);

// include/uapi/linux/sync_file.h
struct SyncFileInfo {
  char name[32];
  int32_t status;
  uint32_t flags;
  uint32_t num_fences;
  uint32_t pad;
  uint64_t sync_fence_info;
};
static_assert(sizeof(SyncFileInfo) == 56);

struct SyncFenceInfo {
  char obj_name[32];
  char driver_name[32];
  int32_t status;
  uint32_t flags;
  uint64_t timestamp_ns;
};
static_assert(sizeof(SyncFenceInfo) == 80);

constexpr unsigned long kSyncIocFileInfo = _IOWR('>', 4, SyncFileInfo);

}  // namespace iio_bridge::uapi
