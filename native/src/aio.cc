#include "aio.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace iio_bridge {
namespace {

constexpr unsigned kMaxRequests = 1024;

// fs/aio.c, struct aio_ring: mapped at the address that io_setup returns. The kernel advances tail, the reader head.
struct AioRing {
  uint32_t id;
  uint32_t nr;
  uint32_t head;
  uint32_t tail;
  uint32_t magic;
  uint32_t compat_features;
  uint32_t incompat_features;
  uint32_t header_length;
  io_event events[];
};
static_assert(sizeof(AioRing) == 32);
constexpr uint32_t kRingMagic = 0xa10a10a1;

/** Null where the kernel's ring is not one that we can read. */
AioRing* ringOf(aio_context_t context) {
  auto* ring = reinterpret_cast<AioRing*>(context);
  return ring->magic == kRingMagic && ring->incompat_features == 0 ? ring : nullptr;
}

}  // namespace

Aio::Aio() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!event_ || ::syscall(SYS_io_setup, kMaxRequests, &context_) != 0) error_ = -errno;
}

Aio::~Aio() {
  if (context_ != 0) ::syscall(SYS_io_destroy, context_);
}

void Aio::prepare(AioRequest& request, uint16_t op, int fd, uint64_t data, size_t bytes, Notify notify) {
  request.control = {};
  request.control.aio_data = reinterpret_cast<uintptr_t>(&request);
  request.control.aio_lio_opcode = op;
  request.control.aio_fildes = static_cast<uint32_t>(fd);
  request.control.aio_buf = data;
  request.control.aio_nbytes = bytes;
  if (notify == Notify::kYes) {
    request.control.aio_flags = IOCB_FLAG_RESFD;
    request.control.aio_resfd = static_cast<uint32_t>(event_.get());
  }
}

void Aio::prepareRead(AioRequest& request, int fd, void* data, size_t bytes, Notify notify) {
  prepare(request, IOCB_CMD_PREAD, fd, reinterpret_cast<uintptr_t>(data), bytes, notify);
}

void Aio::prepareWrite(AioRequest& request, int fd, const void* data, size_t bytes, Notify notify) {
  prepare(request, IOCB_CMD_PWRITE, fd, reinterpret_cast<uintptr_t>(data), bytes, notify);
}

int Aio::submit(AioRequest* const* requests, unsigned count) {
  iocb* controls[64];
  if (count > 64) count = 64;
  for (unsigned i = 0; i < count; i++) controls[i] = &requests[i]->control;
  const long taken = ::syscall(SYS_io_submit, context_, static_cast<long>(count), controls);
  if (taken < 0) return -errno;
  outstanding_ += static_cast<size_t>(taken);
  return static_cast<int>(taken);
}

void Aio::cancel(AioRequest& request) {
  io_event unused;
  ::syscall(SYS_io_cancel, context_, &request.control, &unused);
}

void Aio::finish(const io_event& event) {
  outstanding_--;
  auto* request = reinterpret_cast<AioRequest*>(static_cast<uintptr_t>(event.data));
  request->owner->onAioDone(*request, static_cast<long>(event.res));
}

Aio::Controller Aio::controller() const {
  const AioRing* ring = ringOf(context_);
  if (ring == nullptr) return Controller::kUnknown;
  const uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
  size_t ended = 0;
  for (uint32_t at = ring->head; at != tail; at = (at + 1) % ring->nr) {
    if (ring->events[at].res == -ESHUTDOWN) return Controller::kGone;
    ended++;
  }
  return outstanding_ > ended ? Controller::kBound : Controller::kUnknown;
}

void Aio::reap() {
  AioRing* ring = ringOf(context_);
  if (ring == nullptr) {
    io_event events[64];
    timespec none{};
    long count;
    while ((count = ::syscall(SYS_io_getevents, context_, 0L, 64L, events, &none)) > 0) {
      for (long i = 0; i < count; i++) finish(events[i]);
    }
    return;
  }
  uint32_t head = ring->head;
  while (head != __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE)) {
    const io_event event = ring->events[head];
    head = (head + 1) % ring->nr;
    // Given back before the owner hears of it: onAioDone may submit, and the kernel counts the slots that are free.
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
    finish(event);
  }
}

void Aio::clearEvent() {
  uint64_t count;
  if (::read(event_.get(), &count, sizeof count) < 0) return;  // EAGAIN: nothing to clear
}

}  // namespace iio_bridge
