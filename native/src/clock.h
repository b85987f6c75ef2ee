#pragma once

#include <chrono>

namespace iio_bridge {

/**
 * The monotonic clock as of the last turn of the data plane's loop: a system call a turn at most, where reading it for
 * every block would cost several.
 */
class Clock {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  static time_point now() {
    if (!current_) now_ = std::chrono::steady_clock::now();
    current_ = true;
    return now_;
  }
  /** The next now() reads the clock anew. */
  static void nextTurn() { current_ = false; }

 private:
  static inline thread_local time_point now_;
  static inline thread_local bool current_ = false;
};

/** When something that may take `timeoutMs` from now on is late; 0 = never. */
inline Clock::time_point deadlineAfter(int timeoutMs) {
  return timeoutMs > 0 ? Clock::now() + std::chrono::milliseconds(timeoutMs) : Clock::time_point::max();
}

}  // namespace iio_bridge
