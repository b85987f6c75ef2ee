#pragma once

#include <functional>
#include <memory>

#include "../src/data_plane.h"
#include "../src/unique_fd.h"
#include "fake_kernel.h"
#include "turns.h"

namespace fake {

/** A data plane on a fake kernel. Its thread and the test take turns; its end checks that it has given everything back. */
class Plane {
 public:
  explicit Plane(bool scatterGather = true);
  ~Plane();

  /** Runs `command` on the data plane's thread, and whatever follows from it. */
  void run(const std::function<void(iio_bridge::DataPlane&)>& command);
  /** Whatever follows from what the test has done to the kernel. */
  void settle() { turns.settle(); }
  void advance(std::chrono::nanoseconds time) { turns.advance(time); }
  /** Ends the data plane, which must get back whatever it has given to the kernel. */
  void end();

  Kernel kernel;
  Turns turns;

 private:
  iio_bridge::DataPlane plane_;
};

/** The client's ends of a link, either of USB or of a socket, and how a data plane makes the link itself. */
struct Wire {
  static Wire usb(Kernel& kernel, size_t packetBytes);
  /** `sendBufferBytes`: what the kernel may hold of what the link sends, about; 0 is its default. */
  static Wire socketPair(int sendBufferBytes = 0);

  EndpointPtr in, out;
  iio_bridge::UniqueFd socket;
  /** To be called once. */
  std::function<std::unique_ptr<iio_bridge::Link>(iio_bridge::DataPlane&)> makeLink;
};

}  // namespace fake
