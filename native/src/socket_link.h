#pragma once

#include <deque>

#include "link.h"
#include "unique_fd.h"

namespace iio_bridge {

/**
 * Owns a connected, non-blocking stream socket: TCP, or one end of a socketpair. Everything leaves in the order in which
 * it was queued; a block goes from its mapping to the kernel, and stays `sending` until the kernel has its last byte.
 */
class SocketLink : public Link, private PollClient {
 public:
  explicit SocketLink(UniqueFd socket) : socket_(std::move(socket)) {}

  void send(std::vector<uint8_t> bytes) override;
  void sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent) override;
  bool abandon(const Block& block) override;
  int attach(int) override { return -EOPNOTSUPP; }
  void detach(int) override {}
  SinkKind mappedSink() const override { return SinkKind::kSocket; }
  void collect(Poller& poller) override;

 private:
  struct Item {
    std::vector<uint8_t> bytes;  // an answer, or what comes before the block
    BlockPart part{};            // sent after the bytes; may be none
    std::function<void(int)> sent;
    size_t taken = 0;  // by the kernel
    size_t length() const { return bytes.size() + part.bytes; }
    CpuAccess access{};
  };

  bool isIdle() const override { return items_.empty(); }
  size_t unsentBytes() const override { return unsentBytes_; }
  void stop() override {}
  bool closeFiles() override;
  void flush();
  /** Whether the kernel took something. */
  bool sendSome();
  void taken(size_t bytes);
  void receive();
  bool hasHungUp() const;
  void onReady(int fd) override;

  UniqueFd socket_;
  std::deque<Item> items_;
  size_t unsentBytes_ = 0;  // of items without a block
  bool flushing_ = false;
};

}  // namespace iio_bridge
