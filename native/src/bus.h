#pragma once

#include <poll.h>

namespace iio_bridge {

/**
 * What ep0 can tell of the bus at once. After the controller is unbound, a transfer of a DMABUF dereferences a null pointer in the
 * kernel (Linux 6.12), so whoever makes one asks right before, although the loop has looked at ep0 in this turn: between the two
 * remain microseconds. ATTACH and DETACH do the same, but not once per block: for them the look of the turn has to do.
 */
class Bus {
 public:
  void watch(int ep0) {
    ep0_ = ep0;
    isBusy_ = false;
  }
  void unwatch() { ep0_ = -1; }
  /** -1: not watched. */
  int ep0() const { return ep0_; }
  /** A control request waits for its answer: ep0 is readable whatever happens. */
  void setBusy(bool busy) { isBusy_ = busy; }
  bool isToBeRead() const { return ep0_ >= 0 && !isBusy_; }
  /** Whether ep0 has something to say that has not been heard. */
  bool hasNews() const {
    if (!isToBeRead()) return false;
    pollfd ep0{ep0_, POLLIN, 0};
    return ::poll(&ep0, 1, 0) > 0;
  }

 private:
  int ep0_ = -1;
  bool isBusy_ = false;
};

}  // namespace iio_bridge
