#include "usb_link.h"

namespace iio_bridge {

UsbLink::UsbLink(Aio& aio, UniqueFd in, UniqueFd out, size_t packetBytes)
    : in_(aio, std::move(in), [this](int error) { close(error); }),
      out_(
          aio, std::move(out), packetBytes, [this](const uint8_t* data, size_t bytes) { received(data, bytes); },
          [this](int error) { close(error); }) {}

void UsbLink::send(std::vector<uint8_t> bytes) {
  if (!closing() && !bytes.empty()) in_.send(std::move(bytes));
}

void UsbLink::sendBlock(std::vector<std::vector<uint8_t>> heads, BlockPart part, std::function<void(int)> sent) {
  if (!closing()) in_.sendBlock(std::move(heads), std::move(part), std::move(sent));
}

void UsbLink::collect(Poller& poller) {
  in_.collect(poller);
  resume();
}

void UsbLink::resume() {
  if (!closing() && wantsMore()) out_.arm();
}

void UsbLink::stop() {
  in_.stop(reason() != 0);
  out_.stop();
}

bool UsbLink::closeFiles() {
  const bool inClosed = in_.close();
  return out_.close() && inClosed;
}

}  // namespace iio_bridge
