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
#include "poller.h"
#include "unique_fd.h"

namespace iio_bridge {

/**
 * Owns a FunctionFS endpoint file that sends to the host, and the one queue through which everything sent on it goes.
 * Items leave in the order in which they were queued, with nothing in between, so a header and its payload stay
 * adjacent although one goes by AIO and the other by DMABUF.
 */
class InEndpoint : private AioOwner, private PollClient {
 public:
  /** `failed` is called once, with the negative errno, when the endpoint can no longer be used. */
  InEndpoint(Aio& aio, const Bus& bus, UniqueFd fd, std::function<void(int)> failed);

  /** A transfer of its own, of bytes that the endpoint keeps until they are sent. */
  void send(std::vector<uint8_t> bytes);
  /** Each of `heads` as a transfer of its own, and then the part of a block; `sent` hears 0 or the negative errno. */
  void sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent);
  /**
   * Nobody hears of the block's end any more. It is forgotten where nothing of it has left; otherwise it goes on, because the
   * client counts on it: false.
   */
  bool abandon(const Block& block);

  /** 0, or the negative errno of FUNCTIONFS_DMABUF_ATTACH. */
  int attach(int dmabuf);
  /** At once, or after the transfer that is queued of it. */
  void detach(int dmabuf);

  /** Nothing is queued. */
  bool isIdle() const { return items_.empty(); }
  /** Bytes of send() that the controller has not yet sent. */
  size_t unsentBytes() const { return unsentBytes_; }

  void collect(Poller& poller);
  /** Nothing is submitted from here on, and no dmabuf detached if the bus may be gone. */
  void stop(bool busMayBeGone) {
    closing_ = true;
    busMayBeGone_ = busMayBeGone;
  }
  /** Cancels what is pending. Call until it returns true: then the file is closed. */
  bool close();

 private:
  struct Item {
    std::vector<uint8_t> bytes;  // of a plain transfer
    BlockPart part{};            // of a payload
    size_t heads = 0;            // items right before a payload that announce it
    std::function<void(int)> sent;
    size_t length = 0;
    size_t submitted = 0;
    size_t completed = 0;
    Fence fence;
    bool isOfBlock = false;
    bool detachAfterwards = false;
    bool finished = false;
    bool isPayload() const { return static_cast<bool>(part.block); }
    bool byDmabuf() const { return isPayload() && part.byDmabuf; }
    const uint8_t* data() const { return isPayload() ? part.block->memory.data() + part.offset : bytes.data(); }
  };
  struct Slot : AioRequest {
    std::shared_ptr<Item> item;
    size_t length = 0;
    uint64_t sequence = 0;
  };

  void pump();
  bool submitItem(const std::shared_ptr<Item>& item);
  bool submitDmabuf(Item& item);
  void cancel(Item& item);
  void finish(Item& item, int status);
  void dropFinished();
  void fail(int error);
  void onAioDone(AioRequest& request, long result) override;
  void onReady(int fd) override;
  Slot* freeSlot();

  Aio& aio_;
  const Bus& bus_;
  UniqueFd fd_;
  std::function<void(int)> failed_;
  std::deque<std::shared_ptr<Item>> items_;
  size_t next_ = 0;  // first item that is not wholly submitted
  size_t unsentBytes_ = 0;
  std::vector<std::unique_ptr<Slot>> slots_;
  uint64_t submissions_ = 0;
  bool closing_ = false;
  bool busMayBeGone_ = false;
  bool cancelled_ = false;
};

}  // namespace iio_bridge
