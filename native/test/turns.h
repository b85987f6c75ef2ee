#pragma once

#include <poll.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace fake {

/**
 * Runs the data plane's thread and the test in turns: the thread goes on when the test says so, until its poll() finds
 * nothing to do. Time stands still unless the test moves it. So what a test does happens in an order that its code, or
 * its seed, decides.
 */
class Turns {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  Turns();
  ~Turns();
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  static Turns* current();

  /** Lets the thread run until it has nothing to do. It must exist, and poll. */
  void settle();
  /** Moves the clock and settles. */
  void advance(std::chrono::nanoseconds time);
  /** From now on poll() does not wait for settle(): where it would wait for a time, the clock is moved. */
  void letRun();

  // The product's side.
  int poll(pollfd* fds, nfds_t count, int timeoutMs);
  time_point now();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  time_point now_;
  bool idle_ = false;
  bool go_ = false;
  bool running_ = false;
};

}  // namespace fake
