#include "plane.h"

#include <sys/socket.h>

#include "../src/socket_link.h"
#include "../src/usb_link.h"

namespace fake {

using iio_bridge::DataPlane;
using iio_bridge::SocketLink;
using iio_bridge::UniqueFd;
using iio_bridge::UsbLink;

Plane::Plane(bool scatterGather) : kernel(scatterGather) {
  if (plane_.error() != 0) die("no data plane");
}

Plane::~Plane() { end(); }

void Plane::end() {
  turns.letRun();
  if (!plane_.shutdown()) die("the data plane did not get everything back from the kernel");
}

void Plane::run(const std::function<void(DataPlane&)>& command) {
  plane_.post([this, command] { command(plane_); });
  turns.settle();
}

Wire Wire::usb(Kernel& kernel, size_t packetBytes) {
  const auto in = kernel.openEndpoint(Endpoint::Direction::kIn, packetBytes);
  const auto out = kernel.openEndpoint(Endpoint::Direction::kOut, packetBytes);
  return {in.file, out.file, {}, [inFd = in.fd, outFd = out.fd, packetBytes](DataPlane& plane) {
            return std::make_unique<UsbLink>(plane.aio(), plane.bus(), UniqueFd(inFd), UniqueFd(outFd), packetBytes);
          }};
}

Wire Wire::socketPair(int sendBufferBytes) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) die("no socket");
  if (sendBufferBytes > 0) ::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &sendBufferBytes, sizeof sendBufferBytes);
  return {nullptr, nullptr, UniqueFd(ends[0]),
          [end = ends[1]](DataPlane&) { return std::make_unique<SocketLink>(UniqueFd(end)); }};
}

}  // namespace fake
