#include "sample_reader.h"

#include <algorithm>
#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

// A client that does not read its samples gets no further ones queued, and its time-out does not run meanwhile.
constexpr size_t kPiecesAhead = 2;

}  // namespace

SampleReader::SampleReader(Capture& capture, Link* link, bool sinkByAio, size_t own)
    : Reader(capture, link, sinkByAio), own_(own) {
  accepts_ = true;
  capture.addOwned(static_cast<ptrdiff_t>(own));
  capture.join(*this);
}

SampleReader::~SampleReader() {
  capture().addOwned(-static_cast<ptrdiff_t>(own_));
  finish(-EBADF);
}

void SampleReader::take(size_t most, int timeoutMs, Done done) {
  ask({most, false, {}, timeoutMs, Clock::time_point::max(), std::move(done)});
}

void SampleReader::send(size_t most, std::string line, int timeoutMs, Done done) {
  if (link_ == nullptr) return done(-ESHUTDOWN, 0, {});
  ask({most, true, std::move(line), timeoutMs, Clock::time_point::max(), std::move(done)});
}

void SampleReader::ask(Request request) {
  if (request_) return request.done(-EBUSY, 0, {});
  request_ = std::make_unique<Request>(std::move(request));
  serve();
  if (request_) capture().resume();
}

bool SampleReader::wants() const {
  return request_ && backlog_.empty() && !(request_->isToBeSent && sending() >= kPiecesAhead);
}

void SampleReader::serve() {
  if (!request_ || (request_->isToBeSent && sending() >= kPiecesAhead)) return;
  if (backlog_.empty()) {
    if (fault_ != 0) return finish(fault_ == -ENOBUFS ? fault_ : std::exchange(fault_, 0));
    if (request_->deadline == Clock::time_point::max()) request_->deadline = deadlineAfter(request_->timeoutMs);
    return;
  }
  const size_t left = backlog_.front().filled->bytes - offset_;
  const size_t bytes = std::min(left, request_->most - request_->most % capture().setBytes());
  if (bytes == 0) return finish(0);
  // A link may have sent it all before it returns, and then this is called again.
  const std::unique_ptr<Request> request = std::move(request_);
  const size_t offset = offset_;
  const bool isLast = bytes == left;
  Entry entry = backlog_.front();
  if (isLast) backlog_.pop_front();
  offset_ = isLast ? 0 : offset + bytes;
  pinned_ = isLast ? 0 : 1;
  if (offset == 0) statistics_.blocks++;
  statistics_.bytes += bytes;
  request->isToBeSent ? sendPiece(*request, entry, offset, bytes, isLast) : copyPiece(*request, entry, offset, bytes, isLast);
}

void SampleReader::sendPiece(const Request& request, Entry& entry, size_t offset, size_t bytes, bool isLast) {
  const std::string number = std::to_string(bytes) + "\n";
  std::vector<std::vector<uint8_t>> heads{{number.begin(), number.end()}};
  if (!request.line.empty()) heads.emplace_back(request.line.begin(), request.line.end());
  const int error = transmit(std::move(heads), entry, offset, bytes, isLast, [this] { serve(); });
  if (error != 0 && isLast) release(entry);
  request.done(error, bytes, {});
}

void SampleReader::copyPiece(const Request& request, Entry& entry, size_t offset, size_t bytes, bool isLast) {
  CaptureBlock& block = *entry.filled->block;
  const int error = block.map();
  std::vector<uint8_t> copy;
  if (error == 0) {
    const CpuAccess access(block, uapi::kSyncRead);
    copy.assign(block.memory.data() + offset, block.memory.data() + offset + bytes);
  }
  if (isLast) release(entry);
  request.done(error, bytes, std::move(copy));
}

void SampleReader::failed(int status, const CaptureBlock*) {
  fault_ = status;
  serve();
}

void SampleReader::expire(Clock::time_point now) {
  if (request_ && request_->deadline <= now) {
    statistics_.timeouts++;
    finish(-ETIMEDOUT);
  }
}

void SampleReader::unlink() {
  Reader::unlink();
  if (request_ && request_->isToBeSent) finish(-ESHUTDOWN);
}

void SampleReader::finish(int status) {
  if (!request_) return;
  const std::unique_ptr<Request> request = std::move(request_);
  request->done(status, 0, {});
}

}  // namespace iio_bridge
