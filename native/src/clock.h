#pragma once

#include <chrono>

namespace iio_bridge {

using Clock = std::chrono::steady_clock;

/** When something that may take `timeoutMs` from now on is late; 0 = never. */
inline Clock::time_point deadlineAfter(int timeoutMs) {
  return timeoutMs > 0 ? Clock::now() + std::chrono::milliseconds(timeoutMs) : Clock::time_point::max();
}

}  // namespace iio_bridge
