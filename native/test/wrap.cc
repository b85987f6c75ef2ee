#include "wrap.h"

#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <ctime>

#include "fake_kernel.h"
#include "turns.h"

using fake::Kernel;
using std::chrono::steady_clock;

extern "C" {

int __real_ioctl(int fd, unsigned long request, void* argument);
ssize_t __real_read(int fd, void* data, size_t bytes);
ssize_t __real_write(int fd, const void* data, size_t bytes);
int __real_close(int fd);
int __real_poll(pollfd* fds, nfds_t count, int timeoutMs);
int __real_clock_gettime(clockid_t clock, timespec* now);
// steady_clock::now(), whose result is passed as its count is.
steady_clock::rep __real__ZNSt6chrono3_V212steady_clock3nowEv();

namespace {

Kernel* kernelOf(int fd) {
  Kernel* kernel = Kernel::current();
  return kernel != nullptr && kernel->owns(fd) ? kernel : nullptr;
}

long result(long given) {
  if (given >= 0) return given;
  errno = static_cast<int>(-given);
  return -1;
}

}  // namespace

int __wrap_ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  Kernel* kernel = kernelOf(fd);
  return kernel != nullptr ? static_cast<int>(result(kernel->ioctl(fd, request, argument)))
                           : __real_ioctl(fd, request, argument);
}

ssize_t __wrap_read(int fd, void* data, size_t bytes) {
  Kernel* kernel = kernelOf(fd);
  return kernel != nullptr ? result(kernel->read(fd, data, bytes)) : __real_read(fd, data, bytes);
}

ssize_t __wrap_write(int fd, const void* data, size_t bytes) {
  Kernel* kernel = kernelOf(fd);
  return kernel != nullptr ? result(kernel->write(fd, data, bytes)) : __real_write(fd, data, bytes);
}

int __wrap_close(int fd) {
  // Forgotten first: as soon as it is closed, another thread may get the same number.
  if (Kernel* kernel = kernelOf(fd)) kernel->close(fd);
  return __real_close(fd);
}

int __wrap_poll(pollfd* fds, nfds_t count, int timeoutMs) {
  if (Kernel* kernel = Kernel::current()) {
    for (nfds_t i = 0; i < count; i++) kernel->aboutToPoll(fds[i].fd);
  }
  fake::Turns* turns = fake::Turns::current();
  return turns != nullptr ? turns->poll(fds, count, timeoutMs) : __real_poll(fds, count, timeoutMs);
}

steady_clock::rep __wrap__ZNSt6chrono3_V212steady_clock3nowEv() {
  fake::Turns* turns = fake::Turns::current();
  return turns != nullptr ? turns->now().time_since_epoch().count() : __real__ZNSt6chrono3_V212steady_clock3nowEv();
}

int __wrap_clock_gettime(clockid_t clock, timespec* now) {
  fake::Turns* turns = fake::Turns::current();
  if (turns == nullptr) return __real_clock_gettime(clock, now);
  const auto ns = std::chrono::nanoseconds(turns->now().time_since_epoch()).count();
  *now = {ns / 1'000'000'000, ns % 1'000'000'000};
  return 0;
}

long __wrap_syscall(long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  long given[4];
  for (long& argument : given) argument = va_arg(arguments, long);
  va_end(arguments);
  Kernel* kernel = Kernel::current();
  if (kernel == nullptr) fake::die("the product's system calls need a kernel");
  const auto context = static_cast<aio_context_t>(given[0]);
  switch (number) {
    case SYS_io_setup:
      return result(kernel->ioSetup(static_cast<unsigned>(given[0]), reinterpret_cast<aio_context_t*>(given[1])));
    case SYS_io_destroy:
      return result(kernel->ioDestroy(context));
    case SYS_io_submit:
      return result(kernel->ioSubmit(context, given[1], reinterpret_cast<iocb**>(given[2])));
    case SYS_io_cancel:
      return result(kernel->ioCancel(context, reinterpret_cast<iocb*>(given[1])));
    case SYS_io_getevents:
      return result(kernel->ioGetEvents(context, given[2], reinterpret_cast<io_event*>(given[3])));
    default:
      fake::die("a system call that the fake kernel does not have");
  }
}

}  // extern "C"

namespace fake::real {

long read(int fd, void* data, size_t bytes) { return __real_read(fd, data, bytes); }
long write(int fd, const void* data, size_t bytes) { return __real_write(fd, data, bytes); }
int close(int fd) { return __real_close(fd); }
int poll(pollfd* fds, nfds_t count, int timeoutMs) { return __real_poll(fds, count, timeoutMs); }

}  // namespace fake::real
