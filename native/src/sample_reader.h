#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "reader.h"

namespace iio_bridge {

/**
 * A client of the text protocol: TypeScript asks for its samples in pieces of any number of sample sets, one at a time. A
 * block may be delivered in several pieces; none is longer than a block.
 */
class SampleReader : public Reader {
 public:
  /** Hears 0 and, of a take(), the bytes; of a send(), their number. Or a negative errno, such as -ETIMEDOUT. */
  using Done = std::function<void(int status, size_t sent, std::vector<uint8_t> bytes)>;

  /** `own`: how many of the capture's blocks are there for this reader. `link`: for send(); may be none. */
  SampleReader(Capture& capture, Link* link, bool sinkByAio, size_t own);
  /** Whoever still waits hears -EBADF. */
  ~SampleReader() override;

  /** A copy of at most `most` bytes of samples; nothing where that is less than a sample set. 0 ms: no time-out. */
  void take(size_t most, int timeoutMs, Done done);
  /**
   * Sends at most `most` bytes on the link: their number as a line, then `line` if it is not empty, then the samples,
   * without a copy where the link's hardware takes the block.
   */
  void send(size_t most, std::string line, int timeoutMs, Done done);
  /** How samples leave by send(); the capture must have a block. */
  BlockPath path() { return pathOf(capture().anyBlock()); }

  bool wants() const override;
  void failed(int status, const CaptureBlock* block) override;
  Clock::time_point nextDeadline() override { return request_ ? request_->deadline : Clock::time_point::max(); }
  void expire(Clock::time_point now) override;

 private:
  struct Request {
    size_t most;
    bool isToBeSent;
    std::string line;
    int timeoutMs;
    Clock::time_point deadline;
    Done done;
  };

  void unlink() override;
  void ask(Request request);
  void serve() override;
  size_t own() const override { return own_; }
  void sendPiece(const Request& request, Entry& entry, size_t offset, size_t bytes, bool isLast);
  void copyPiece(const Request& request, Entry& entry, size_t offset, size_t bytes, bool isLast);
  void finish(int status);

  size_t own_;
  size_t offset_ = 0;  // of what has been delivered of the first block that waits
  int fault_ = 0;
  std::unique_ptr<Request> request_;
};

}  // namespace iio_bridge
