#include "sample_io.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace iio_bridge {
namespace {

// A client may ask for more at once than arrives for a long time: room is made as it comes.
constexpr size_t kPieceBytes = 256 * 1024;

/** Takes what is late from `queue` and tells it so. */
template <typename Queue>
void expireIn(Queue& queue, Clock::time_point now) {
  for (auto waiting = queue.begin(); waiting != queue.end();) {
    if (waiting->deadline > now) {
      ++waiting;
      continue;
    }
    const auto done = std::move(waiting->done);
    waiting = queue.erase(waiting);
    done(-ETIMEDOUT, {});
  }
}

template <typename Queue>
Clock::time_point firstDeadlineIn(const Queue& queue) {
  auto first = Clock::time_point::max();
  for (const auto& waiting : queue) first = std::min(first, waiting.deadline);
  return first;
}

}  // namespace

SampleIo::~SampleIo() {
  for (const Read& read : reads_) read.done(-EBADF, {});
  for (const Write& write : writes_) write.done(-EBADF, {});
}

void SampleIo::read(size_t least, size_t most, int timeoutMs, Done done) {
  reads_.push_back({least, most, deadlineAfter(timeoutMs), std::move(done)});
  pumpReads();
}

void SampleIo::write(std::vector<uint8_t> bytes, int timeoutMs, Done done) {
  writes_.push_back({std::move(bytes), 0, deadlineAfter(timeoutMs), std::move(done)});
  pumpWrites();
}

void SampleIo::pumpReads() {
  while (!reads_.empty()) {
    Read& first = reads_.front();
    if (arrived_.size() < first.least) {
      if (!readMore()) return;
      continue;
    }
    const auto end = arrived_.begin() + static_cast<ptrdiff_t>(std::min(arrived_.size(), first.most));
    std::vector<uint8_t> bytes(arrived_.begin(), end);
    arrived_.erase(arrived_.begin(), end);
    const Done done = std::move(first.done);
    reads_.pop_front();
    done(0, std::move(bytes));
  }
}

bool SampleIo::readMore() {
  Read& first = reads_.front();
  const size_t had = arrived_.size();
  const size_t room = std::min(first.most - had, kPieceBytes);
  arrived_.resize(had + room);
  const ssize_t count = ::read(fd_.get(), arrived_.data() + had, room);
  const int error = count < 0 ? errno : 0;
  arrived_.resize(had + static_cast<size_t>(std::max<ssize_t>(count, 0)));
  if (count > 0) return true;
  if (error == EAGAIN || error == EINTR) return false;
  const Done done = std::move(first.done);
  reads_.pop_front();
  done(error == 0 ? -EPIPE : -error, {});
  return true;
}

void SampleIo::pumpWrites() {
  while (!writes_.empty()) {
    Write& first = writes_.front();
    int status = 0;
    if (first.written < first.bytes.size()) {
      const ssize_t count =
          ::write(fd_.get(), first.bytes.data() + first.written, first.bytes.size() - first.written);
      if (count < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        status = -errno;
      } else {
        first.written += static_cast<size_t>(count);
        if (count == 0) return;
        if (first.written < first.bytes.size()) continue;
      }
    }
    const Done done = std::move(first.done);
    writes_.pop_front();
    done(status, {});
  }
}

void SampleIo::collect(Poller& poller) {
  const short events = static_cast<short>((reads_.empty() ? 0 : POLLIN) | (writes_.empty() ? 0 : POLLOUT));
  if (events != 0) poller.add(fd_.get(), events, *this);
}

void SampleIo::onReady(int) {
  pumpReads();
  pumpWrites();
}

Clock::time_point SampleIo::nextDeadline() const {
  return std::min(firstDeadlineIn(reads_), firstDeadlineIn(writes_));
}

void SampleIo::expire(Clock::time_point now) {
  expireIn(reads_, now);
  expireIn(writes_, now);
}

}  // namespace iio_bridge
