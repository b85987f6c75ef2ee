#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "aio.h"
#include "unique_fd.h"

namespace iio_bridge {

/**
 * Owns a FunctionFS endpoint file that receives from the host. It keeps several reads of one packet each posted: a
 * transfer ends with a short packet or fills packet-sized reads exactly, so the host's transfers come out as a byte
 * stream whatever their lengths, without waiting for a zero-length packet that hosts do not send.
 */
class OutEndpoint : private AioOwner {
 public:
  /** `received` takes the bytes, in order; `failed` is called once, with the negative errno. */
  OutEndpoint(Aio& aio, UniqueFd fd, size_t packetBytes, std::function<void(const uint8_t*, size_t)> received,
              std::function<void(int)> failed);

  /** Posts reads anew when many have been used up; to be called every turn while the receiver has room. */
  void arm();
  /** Nothing is posted from here on. */
  void stop() { closing_ = true; }
  /** Cancels what is pending. Call until it returns true: then the file is closed. */
  bool close();

 private:
  struct Slot : AioRequest {
    std::vector<uint8_t> data;
    long result = 0;
    enum { kFree, kPosted, kDone } state = kFree;
  };

  void onAioDone(AioRequest& request, long result) override;
  void fail(int error);

  Aio& aio_;
  UniqueFd fd_;
  std::function<void(const uint8_t*, size_t)> received_;
  std::function<void(int)> failed_;
  std::vector<std::unique_ptr<Slot>> slots_;
  size_t oldest_ = 0;  // posted longest ago
  size_t posted_ = 0;  // slots from oldest_ on that are posted or done
  bool closing_ = false;
  bool cancelled_ = false;
};

}  // namespace iio_bridge
