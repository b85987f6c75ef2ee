#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block.h"
#include "clock.h"
#include "payload.h"
#include "poller.h"

namespace iio_bridge {

/** The 8 bytes before everything in the binary protocol; little-endian like every host that speaks it. */
struct FrameHeader {
  uint16_t clientId;
  uint8_t op;
  uint8_t dev;
  int32_t code;
} __attribute__((packed));
static_assert(sizeof(FrameHeader) == 8);

/** Executes frames that occur per block without TypeScript. */
class FrameHandler {
 public:
  virtual bool handles(const FrameHeader& header) const = 0;
  /** Of a frame that it handles: bytes that follow the header, 8 at most. */
  virtual size_t requestPayloadBytes(const FrameHeader& header) const = 0;
  /** `bytesUsed`: the payload, 0 where there is none. */
  virtual void handle(const FrameHeader& header, uint64_t bytesUsed) = 0;

 protected:
  ~FrameHandler() = default;
};

/**
 * A bidirectional byte stream with one client, and the parser of the one kind of frame that occurs per block.
 *
 * TypeScript pulls what it wants: a line, a number of bytes, or the next frame's header. While it waits for a frame,
 * block requests of the buffers that are open on the link are executed here and do not reach it. So frames are executed in the order of
 * their arrival, and a client that sends faster than TypeScript works, or that does not read its answers, is held back,
 * not buffered.
 */
class Link {
 public:
  enum class Want { kNothing, kLine, kBytes, kFrame };
  using Delivery = std::function<void(int status, std::vector<uint8_t> bytes)>;
  using Drained = std::function<void(int status)>;

  virtual ~Link() = default;

  /**
   * Asks for the next piece, once per delivery. A line is delivered with its newline, and with status -E2BIG where it
   * exceeds `limit`.
   */
  void pull(Want want, size_t limit, Delivery delivery);
  /**
   * `drained` hears 0 once at most `limit` bytes of send() wait for the client to read, or why that will not be. With a
   * limit of 0 blocks count, too.
   */
  void drain(size_t limit, Drained drained);
  /** Frames that `handler` handles do not reach TypeScript from here on; it must be removed before it goes. */
  void addHandler(FrameHandler& handler) { handlers_.push_back(&handler); }
  void removeHandler(FrameHandler& handler);
  /** What comes next goes into the payload's memory, until that is complete. */
  void receivePayload(const std::shared_ptr<Payload>& payload);
  void setClosedHandler(std::function<void(int)> handler) { closed_ = std::move(handler); }

  /** Queues bytes; on USB as a transfer of their own. */
  virtual void send(std::vector<uint8_t> bytes) = 0;
  /** Each of `heads` as send() would, and then the part, with nothing in between; `sent` hears 0 or the negative errno. */
  virtual void sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent) = 0;
  /**
   * Forgets what is queued of a block: its `sent` is not called. False where bytes of it must still leave, because the
   * client counts on them: the link keeps the block alive, and nobody may write to it any more. A block that went by
   * dmabuf must be detached next.
   */
  virtual bool abandon(const Block& block) = 0;
  /**
   * Makes the link's hardware know a dmabuf, so that sendBlock needs no copy; 0 or a negative errno, -EOPNOTSUPP where
   * there is no such hardware.
   */
  virtual int attach(int dmabuf) = 0;
  virtual void detach(int dmabuf) = 0;
  /** As attach(), for the payloads that the client sends. */
  virtual int attachReceiver(int /*dmabuf*/) { return -EOPNOTSUPP; }
  /** The block's memory may stay attached until the payload that is on its way into it has come. */
  virtual void detachReceiver(const std::shared_ptr<Block>& /*block*/) {}
  /** How sendBlock moves a block that is not attached: out of its mapping. */
  virtual SinkKind mappedSink() const = 0;
  virtual void collect(Poller& poller) = 0;
  /** To be called every turn: goes on with what waited for the client to read. */
  void proceed();
  Clock::time_point nextDeadline() const;
  void expire() { close(-ESHUTDOWN); }

  /** The USB bus is gone: nothing may be submitted to an endpoint any more. */
  virtual void busGone() {}
  /** Starts to end the link; `reason` is a negative errno, 0 when we wanted it. */
  void close(int reason);
  bool closing() const { return closing_; }
  /** Why it is closing: see close(). */
  int reason() const { return reason_; }
  /** Goes on with ending it; true once nothing is left of it. */
  bool finishClosing();

  void sendResponse(uint16_t clientId, int32_t code);

 protected:
  void received(const uint8_t* data, size_t bytes);
  /** The client sends nothing more, but may read. The link ends with the last answer to what it has sent. */
  void clientDone();
  /** The client sends nothing beyond what has come, of which not everything has been read: it may be gone, as above. */
  void clientLeaves();
  /** Whether one of the above was called. */
  bool clientLeft() const { return clientLeft_; }
  /** Whether to read on what the client sends. */
  bool wantsMore() const;
  /** That of which some is still to be received; may be none. */
  Payload* payload() const { return payload_.get(); }
  /**
   * Gives the controller as much as it can receive by itself of a payload of which nothing has arrived; returns how many
   * bytes that are, and calls receivedByHardware() once they are there.
   */
  virtual size_t receiveByHardware(const std::shared_ptr<Payload>& /*payload*/) { return 0; }
  void receivedByHardware(Payload& payload, int status);
  /** Nothing is to be received but what is wanted: the rest may be a payload, which goes elsewhere. */
  void receiveExactly() { exact_ = true; }
  /** Nothing is to be sent, bytes or blocks. */
  virtual bool isIdle() const = 0;
  /** How much of what was given to send() is still ours. */
  virtual size_t unsentBytes() const = 0;
  /** Nothing may be submitted from here on. */
  virtual void stop() = 0;
  virtual bool closeFiles() = 0;

 private:
  void pump();
  bool serve();
  void deliver(int status, size_t bytes);
  bool execute(FrameHandler& handler, const FrameHeader& header);
  void place(const uint8_t* data, size_t bytes);

  std::vector<uint8_t> received_;
  size_t consumed_ = 0;
  Want want_ = Want::kNothing;
  size_t limit_ = 0;
  Delivery delivery_;
  std::function<void(int)> closed_;
  std::vector<FrameHandler*> handlers_;
  std::shared_ptr<Payload> payload_;
  bool exact_ = false;
  struct Drain {
    size_t limit;
    Drained drained;
  };
  std::vector<Drain> drains_;
  bool clientDone_ = false;
  bool clientLeft_ = false;
  Clock::time_point busySince_{};  // TypeScript is: it has had the latest piece, and asks for none
  bool closing_ = false;
  bool reported_ = false;
  int reason_ = 0;
};

}  // namespace iio_bridge
