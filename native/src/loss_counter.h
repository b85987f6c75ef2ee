#pragma once

#include <cstdint>

#include "unique_fd.h"

namespace iio_bridge {

/** Owns the open attribute of a device that counts the sample sets that it has lost; may be none. */
class LossCounter {
 public:
  explicit LossCounter(UniqueFd attribute) : attribute_(std::move(attribute)) {}
  explicit operator bool() const { return static_cast<bool>(attribute_); }
  /** False where the device does not say. */
  bool read(uint64_t& value) const;

 private:
  UniqueFd attribute_;
};

}  // namespace iio_bridge
