#pragma once

#include <linux/aio_abi.h>

#include <cstddef>
#include <cstdint>

#include "unique_fd.h"

namespace iio_bridge {

/** Who hears about the end of an AioRequest. */
class AioOwner {
 public:
  virtual void onAioDone(struct AioRequest& request, long result) = 0;

 protected:
  ~AioOwner() = default;
};

/** One asynchronous read or write; its memory and the data's must stay until onAioDone. */
struct AioRequest {
  iocb control{};
  AioOwner* owner = nullptr;
  unsigned tag = 0;
};

/**
 * Owns a Linux AIO context (io_setup): the only kernel interface that queues several requests on a FunctionFS endpoint
 * without a thread for each. Completions are read from the ring that the kernel maps into the process, so reaping costs
 * no system call.
 */
class Aio {
 public:
  /** `notify`: whether the end of a request wakes the data plane, or may wait for the next time it is awake. */
  enum class Notify { kYes, kNo };

  Aio();
  ~Aio();
  Aio(const Aio&) = delete;
  Aio& operator=(const Aio&) = delete;

  /** 0, or the negative errno of io_setup or eventfd. */
  int error() const { return error_; }
  /** Readable when a notifying request has ended. */
  int eventFd() const { return event_.get(); }

  void prepareRead(AioRequest& request, int fd, void* data, size_t bytes, Notify notify);
  void prepareWrite(AioRequest& request, int fd, const void* data, size_t bytes, Notify notify);
  /** Submits in order; returns how many were taken, or the negative errno of the first. */
  int submit(AioRequest* const* requests, unsigned count);
  /** Asks for an early end; onAioDone follows in any case. */
  void cancel(AioRequest& request);
  /** Hands every ended request to its owner. */
  void reap();
  void clearEvent();
  /** What the ring shows of the controller behind the endpoints. */
  enum class Controller { kBound, kGone, kUnknown };
  /**
   * Costs no system call. Linux takes every request back, and writes its end into the ring, before it lets go of the controller
   * (drain_workqueue() in ffs_func_unbind()): so it is bound while a request is still with the kernel, and on its way out once
   * one has ended with ESHUTDOWN.
   */
  Controller controller() const;

 private:
  void finish(const io_event& event);
  void prepare(AioRequest& request, uint16_t op, int fd, uint64_t data, size_t bytes, Notify notify);

  aio_context_t context_ = 0;
  UniqueFd event_;
  int error_ = 0;
  /** Requests that have been taken, and not handed back to their owners. */
  size_t outstanding_ = 0;
};

}  // namespace iio_bridge
