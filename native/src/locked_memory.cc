#include "locked_memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace iio_bridge {
namespace {

/** As its pages come into use. */
int lock(const void* start, size_t bytes) { return ::mlock2(start, bytes, MLOCK_ONFAULT) == 0 ? 0 : -errno; }

int lockStack() {
  pthread_attr_t attributes;
  const int error = pthread_getattr_np(pthread_self(), &attributes);
  if (error != 0) return -error;
  void* start = nullptr;
  size_t bytes = 0;
  pthread_attr_getstack(&attributes, &start, &bytes);
  pthread_attr_destroy(&attributes);
  return lock(start, bytes);
}

}  // namespace

int lockMemory() {
  const std::unique_ptr<FILE, int (*)(FILE*)> maps(std::fopen("/proc/self/maps", "re"), std::fclose);
  if (!maps) return -errno;
  char line[4608];
  while (std::fgets(line, sizeof line, maps.get()) != nullptr) {
    unsigned long start = 0;
    unsigned long end = 0;
    char path[4097] = {};
    if (std::sscanf(line, "%lx-%lx %*s %*s %*s %*s %4096s", &start, &end, path) < 3) continue;
    // Programs, libraries and the heap of C; buffers of devices are mapped under other names.
    if (std::strcmp(path, "[heap]") != 0 && (path[0] != '/' || std::strncmp(path, "/dmabuf", 7) == 0)) continue;
    const int error = lock(reinterpret_cast<const void*>(start), end - start);
    if (error != 0) return error;
  }
  return lockStack();
}

}  // namespace iio_bridge
