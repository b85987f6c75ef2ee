#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>

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

/** The time of a clock now: ns. */
inline uint64_t clockNs(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

inline uint64_t monotonicNs() { return clockNs(CLOCK_MONOTONIC); }

}  // namespace iio_bridge
