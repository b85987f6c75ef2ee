#pragma once

#include "aio.h"
#include "in_endpoint.h"
#include "link.h"
#include "out_endpoint.h"

namespace iio_bridge {

/** Owns the two endpoint files of one USB pipe. */
class UsbLink : public Link {
 public:
  UsbLink(Aio& aio, const Bus& bus, UniqueFd in, UniqueFd out, size_t packetBytes);

  void send(std::vector<uint8_t> bytes) override;
  void sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent) override;
  bool abandon(const Block& block) override { return in_.abandon(block); }
  int attach(int dmabuf) override { return in_.attach(dmabuf); }
  void detach(int dmabuf) override { in_.detach(dmabuf); }
  int attachReceiver(int dmabuf) override;
  void detachReceiver(const std::shared_ptr<Block>& block) override { out_.detach(block); }
  SinkKind mappedSink() const override { return SinkKind::kAio; }
  void collect(Poller& poller) override;
  void busGone() override { close(-ESHUTDOWN); }

 private:
  bool isIdle() const override { return in_.isIdle(); }
  size_t unsentBytes() const override { return in_.unsentBytes(); }
  size_t receiveByHardware(const std::shared_ptr<Payload>& payload) override;
  void resume();
  void stop() override;
  bool closeFiles() override;

  InEndpoint in_;
  OutEndpoint out_;
};

}  // namespace iio_bridge
