#pragma once

#include <poll.h>

#include "aio.h"

namespace iio_bridge {

/**
 * What can be known of the bus at once. After the controller is unbound, TRANSFER and DETACH of a DMABUF dereference a null
 * pointer in the kernel (Linux 6.12), so whoever is about to do one asks right before, although the loop has looked at ep0 in
 * this turn. As long as the ring of the AIO context gives the answer, which is nearly always, there are some instructions between
 * it and the kernel; where ep0 has to be asked, there is the way back from a system call, in which a scheduler may well let the
 * one who unbinds run. ATTACH is safe.
 */
class Bus {
 public:
  explicit Bus(const Aio& aio) : aio_(aio) {}

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
  /** Whether something may have happened to the bus that has not been heard. */
  bool hasNews() const {
    const Aio::Controller controller = aio_.controller();
    if (controller != Aio::Controller::kUnknown) return controller == Aio::Controller::kGone;
    if (!isToBeRead()) return false;
    pollfd ep0{ep0_, POLLIN, 0};
    return ::poll(&ep0, 1, 0) > 0;
  }

 private:
  const Aio& aio_;
  int ep0_ = -1;
  bool isBusy_ = false;
};

}  // namespace iio_bridge
