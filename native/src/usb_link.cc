#include "usb_link.h"

namespace iio_bridge {

UsbLink::UsbLink(Aio& aio, const Bus& bus, UniqueFd in, UniqueFd out, size_t packetBytes)
    : in_(aio, bus, std::move(in), [this](int error) { close(error); }),
      out_(
          aio, bus, std::move(out), packetBytes, [this](const uint8_t* data, size_t bytes) { received(data, bytes); },
          [this](int error) { close(error); }) {}

void UsbLink::send(std::vector<uint8_t> bytes) {
  if (!closing() && !bytes.empty()) in_.send(std::move(bytes));
}

void UsbLink::sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent) {
  if (!closing()) in_.sendBlock(std::move(heads), std::move(part), std::move(sent));
}

int UsbLink::attachReceiver(int dmabuf) {
  const int error = out_.attach(dmabuf);
  if (error == 0) receiveExactly();
  return error;
}

size_t UsbLink::receiveByHardware(const std::shared_ptr<Payload>& payload) {
  if (!payload->isAttached) return 0;
  payload->byHardware = true;
  const size_t bytes = out_.receiveByDma(payload->block, payload->length,
                                         [this, payload](int status) { receivedByHardware(*payload, status); });
  if (bytes == 0) payload->byHardware = false;
  return bytes;
}

void UsbLink::collect(Poller& poller) {
  in_.collect(poller);
  out_.collect(poller);
  resume();
}

void UsbLink::resume() {
  if (!closing() && wantsMore()) out_.arm(payload());
}

void UsbLink::stop() {
  in_.stop(reason() != 0);
  out_.stop(reason() != 0);
}

bool UsbLink::closeFiles() {
  const bool inClosed = in_.close();
  return out_.close() && inClosed;
}

}  // namespace iio_bridge
