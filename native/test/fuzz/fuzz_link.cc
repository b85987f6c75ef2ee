// What a client may send, on a socket: the input is the client's bytes with the moves of everybody else in between. The
// first byte of each step says what happens: bytes arrive, TypeScript asks for something, time passes, or the client
// stops sending.

#include <cstddef>
#include <cstdint>
#include <string>

#include "../streams.h"

using namespace fake;
using iio_bridge::Link;

namespace {

/** Reads the steps off the input. */
class Steps {
 public:
  Steps(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}
  bool more() const { return data_ < end_; }
  uint8_t byte() { return more() ? *data_++ : 0; }
  std::string bytes(size_t most) {
    const size_t count = std::min<size_t>(most, static_cast<size_t>(end_ - data_));
    std::string taken(reinterpret_cast<const char*>(data_), count);
    data_ += count;
    return taken;
  }

 private:
  const uint8_t* data_;
  const uint8_t* end_;
};

/** Everything that was delivered, with the bytes that must be a prefix of what was sent. */
struct Delivered {
  std::string bytes;
  size_t pulls = 0;
  size_t deliveries = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Steps steps(data, size);
  Delivered delivered;
  std::string sent;
  bool waiting = false;
  bool closed = false;
  {
    Pair pair;
    pair.link->setClosedHandler([&](int) { closed = true; });
    while (steps.more()) {
      const uint8_t step = steps.byte();
      switch (step % 8) {
        case 0:
        case 1:
        case 2:
        case 3: {
          if (!pair.client) break;
          const std::string piece = steps.bytes(step / 8u);
          const ssize_t count = ::send(pair.client.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
          if (count > 0) sent.append(piece, 0, static_cast<size_t>(count));
          break;
        }
        case 4: {
          if (waiting || pair.link->closing()) break;
          static constexpr Link::Want kWants[] = {Link::Want::kLine, Link::Want::kBytes, Link::Want::kFrame};
          waiting = true;
          delivered.pulls++;
          pair.link->pull(kWants[step / 8 % 3], 1 + steps.byte(), [&](int, std::vector<uint8_t> bytes) {
            waiting = false;
            delivered.deliveries++;
            delivered.bytes += text(bytes);
          });
          break;
        }
        case 5:
          pair.link->send(std::vector<uint8_t>(step * 16u));
          break;
        case 6:
          pair.receive();
          break;
        case 7:
          if (step == 255) pair.halfClose();
          if (step == 247) pair.hangUp();
          break;
      }
      pair.turn();
    }
  }
  // Nothing is lost, invented or given twice, and who asked was answered.
  if (sent.compare(0, delivered.bytes.size(), delivered.bytes) != 0) __builtin_trap();
  if (delivered.pulls != delivered.deliveries || !closed) __builtin_trap();
  return 0;
}
