#include "turns.h"

#include "fake_kernel.h"
#include "wrap.h"

namespace fake {
namespace {

Turns* theTurns = nullptr;

}  // namespace

Turns::Turns() : now_(std::chrono::hours(1)) {
  if (theTurns != nullptr) die("a test has one clock");
  theTurns = this;
}

Turns::~Turns() { theTurns = nullptr; }

Turns* Turns::current() { return theTurns; }

Turns::time_point Turns::now() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return now_;
}

int Turns::poll(pollfd* fds, nfds_t count, int timeoutMs) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto end = timeoutMs < 0 ? time_point::max() : now_ + std::chrono::milliseconds(timeoutMs);
  for (;;) {
    const int ready = real::poll(fds, count, 0);
    if (ready != 0) return ready;
    if (now_ >= end) return 0;
    if (running_) {
      if (timeoutMs < 0) {
        lock.unlock();
        return real::poll(fds, count, -1);
      }
      now_ = end;
      continue;
    }
    idle_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return go_ || running_; });
    idle_ = go_ = false;
  }
}

void Turns::settle() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return idle_; });
  go_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return idle_ && !go_; });
}

void Turns::advance(std::chrono::nanoseconds time) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    now_ += time;
  }
  settle();
}

void Turns::letRun() {
  const std::lock_guard<std::mutex> lock(mutex_);
  running_ = true;
  changed_.notify_all();
}

}  // namespace fake
