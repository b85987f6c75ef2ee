#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <utility>

namespace iio_bridge {

/** Owns a file descriptor and closes it; -1 is "none". */
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/** Owns a memory mapping. */
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      reset();
      data_ = std::exchange(other.data_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { reset(); }

  /** Maps `fd`, or anonymous memory when `fd` is -1; check with `operator bool`, errno tells why not. */
  static Mapping create(int fd, size_t size) {
    const int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    Mapping mapping;
    if (data != MAP_FAILED) {
      mapping.data_ = static_cast<unsigned char*>(data);
      mapping.size_ = size;
    }
    return mapping;
  }

  unsigned char* data() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void reset() {
    if (data_ != nullptr) ::munmap(data_, size_);
    data_ = nullptr;
  }

  unsigned char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace iio_bridge
