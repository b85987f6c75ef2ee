#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "clock.h"
#include "poller.h"
#include "unique_fd.h"

namespace iio_bridge {

/**
 * Owns a non-blocking descriptor that TypeScript reads samples or events from, or writes samples to: the way for
 * everything that is not moved block by block. Reads are served in the order of their arrival, and so are writes.
 *
 * A descriptor of an IIO buffer must have no dmabuf attached: read() would dereference freed memory (Linux 6.12).
 */
class SampleIo : private PollClient {
 public:
  /** Hears 0 and, of a read, the bytes; or a negative errno: -ETIMEDOUT, -EPIPE at the end of the file, the call's. */
  using Done = std::function<void(int status, std::vector<uint8_t> bytes)>;

  explicit SampleIo(UniqueFd fd) : fd_(std::move(fd)) {}
  /** Whoever still waits hears -EBADF. */
  ~SampleIo();

  /** Between `least` and `most` bytes. What arrived before a time-out is kept for the next read. 0 ms: no time-out. */
  void read(size_t least, size_t most, int timeoutMs, Done done);
  /** All of `bytes`; after a time-out an unknown part of them has been written. 0 ms: no time-out. */
  void write(std::vector<uint8_t> bytes, int timeoutMs, Done done);

  void collect(Poller& poller);
  Clock::time_point nextDeadline() const;
  void expire(Clock::time_point now);

 private:
  struct Read {
    size_t least;
    size_t most;
    Clock::time_point deadline;
    Done done;
  };
  struct Write {
    std::vector<uint8_t> bytes;
    size_t written;
    Clock::time_point deadline;
    Done done;
  };

  void pumpReads();
  void pumpWrites();
  /** One read() for the first of the queue: false where nothing came of it. */
  bool readMore();
  void onReady(int fd) override;

  UniqueFd fd_;
  std::deque<Read> reads_;
  std::deque<Write> writes_;
  std::vector<uint8_t> arrived_;  // and not delivered yet
};

}  // namespace iio_bridge
