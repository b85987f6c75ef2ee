#include "loss_counter.h"

#include <unistd.h>

#include <cstdlib>

namespace iio_bridge {

bool LossCounter::read(uint64_t& value) const {
  if (!attribute_) return false;
  char text[32] = {};
  if (::pread(attribute_.get(), text, sizeof text - 1, 0) <= 0) return false;
  char* end = nullptr;
  value = std::strtoull(text, &end, 0);
  return end != text;
}

}  // namespace iio_bridge
