#pragma once

#include <functional>

#include "../src/data_plane.h"
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

}  // namespace fake
