#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "aio.h"
#include "block.h"
#include "bus.h"
#include "fence.h"
#include "payload.h"
#include "poller.h"
#include "unique_fd.h"

namespace iio_bridge {

/**
 * Owns a FunctionFS endpoint file that receives from the host.
 *
 * Reads of one packet each make a byte stream of the host's transfers, whatever their lengths: a transfer ends with a
 * short packet or fills packet-sized reads exactly, and no zero-length packet, which hosts do not send, has to be waited
 * for. Several are posted at once. Of a payload, whole packets are read into its block in large pieces.
 *
 * Where payloads are received by DMA, none of their packets may be taken by a read that was posted before it was known
 * that they would come. So reads are exact there: one packet at a time, of what is known to be no payload.
 */
class OutEndpoint : private AioOwner, private PollClient {
 public:
  /** `received` takes the bytes, in order; `failed` is called once, with the negative errno. */
  OutEndpoint(Aio& aio, const Bus& bus, UniqueFd fd, size_t packetBytes,
              std::function<void(const uint8_t*, size_t)> received, std::function<void(int)> failed);

  /** 0, or the negative errno of FUNCTIONFS_DMABUF_ATTACH. From the first one on, reads are exact. */
  int attach(int dmabuf);
  /** At once, or after the transfer into the block that is under way. */
  void detach(const std::shared_ptr<Block>& block);

  /** Posts reads anew when many have been used up; to be called every turn while the receiver has room. */
  void arm(Payload* payload);
  /**
   * Receives the whole packets of a payload, of which nothing has arrived, by DMA; `done` hears 0 or a negative errno.
   * Returns how many bytes that are: 0 where it cannot be done.
   */
  size_t receiveByDma(const std::shared_ptr<Block>& block, size_t bytes, std::function<void(int)> done);

  void collect(Poller& poller);
  /** Nothing is posted from here on, and no dmabuf detached if the bus may be gone. */
  void stop(bool busMayBeGone) {
    closing_ = true;
    busMayBeGone_ = busMayBeGone;
  }
  /** Cancels what is pending. Call until it returns true: then the file is closed. */
  bool close();

 private:
  struct Slot : AioRequest {
    std::vector<uint8_t> packet;
    uint8_t* target = nullptr;  // into the packet, or into the block
    size_t length = 0;
    std::shared_ptr<Block> block;
    long result = 0;
    bool cancelled = false;
    enum { kFree, kPosted, kDone } state = kFree;
  };
  struct Transfer {
    std::shared_ptr<Block> block;
    Fence fence;
    std::function<void(int)> done;
    bool detachAfterwards = false;
  };

  Slot& slot(size_t fromOldest) { return *slots_[(oldest_ + fromOldest) % slots_.size()]; }
  bool prepare(Slot& slot, Payload* payload, size_t ahead, bool isFirst);
  uint8_t* targetsEnd(const Block& block);
  void cancelReads(size_t keep);
  void onAioDone(AioRequest& request, long result) override;
  void onReady(int fd) override;
  void fail(int error);

  Aio& aio_;
  const Bus& bus_;
  UniqueFd fd_;
  size_t packetBytes_;
  std::function<void(const uint8_t*, size_t)> received_;
  std::function<void(int)> failed_;
  std::vector<std::unique_ptr<Slot>> slots_;
  size_t oldest_ = 0;       // posted longest ago
  size_t posted_ = 0;       // slots from oldest_ on that are posted or done
  size_t postedBytes_ = 0;  // that those can take
  std::deque<Transfer> transfers_;
  bool exact_ = false;
  bool closing_ = false;
  bool busMayBeGone_ = false;
  bool cancelled_ = false;
};

}  // namespace iio_bridge
