#pragma once

#include <cstdint>

#include "unique_fd.h"

namespace iio_bridge {

/**
 * The completion of one DMA transfer on a dmabuf: a sync_file exported right after the transfer was queued.
 *
 * It is polled instead of the dmabuf because it tells success from failure: poll() on a dmabuf reports a transfer that
 * died with the bus exactly like one that completed. Exported after the transfer is over it would always say success, so
 * export() directly follows ENQUEUE and TRANSFER.
 *
 * A fence of a FunctionFS endpoint must be gone (queried or closed) before the endpoint is closed or the dmabuf
 * detached: its lock lives in the attachment, and the kernel does not check (Linux 6.12: use after free).
 */
class Fence {
 public:
  Fence() = default;
  /** `usage` is uapi::kSyncRead to wait for what writes the buffer, kSyncWrite to wait for its readers as well. */
  static Fence exportFrom(int dmabuf, uint64_t usage);

  explicit operator bool() const { return static_cast<bool>(file_); }
  /** Becomes readable when the transfer is over. */
  int fd() const { return file_.get(); }
  /** 1: completed; 0: still pending; negative: the errno that the transfer ended with. */
  int status() const;
  /** As status(), and when it was over: CLOCK_MONOTONIC in ns, 0 where the kernel does not say. */
  int status(uint64_t& endedAtNs) const;
  void close() { file_.reset(); }

 private:
  UniqueFd file_;
};

}  // namespace iio_bridge
