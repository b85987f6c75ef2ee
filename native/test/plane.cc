#include "plane.h"

namespace fake {

Plane::Plane(bool scatterGather) : kernel(scatterGather) {
  if (plane_.error() != 0) die("no data plane");
}

Plane::~Plane() { end(); }

void Plane::end() {
  turns.letRun();
  if (!plane_.shutdown()) die("the data plane did not get everything back from the kernel");
}

void Plane::run(const std::function<void(iio_bridge::DataPlane&)>& command) {
  plane_.post([this, command] { command(plane_); });
  turns.settle();
}

}  // namespace fake
