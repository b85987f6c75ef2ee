#include <doctest/doctest.h>
#include <unistd.h>

#include "../src/sample_io.h"
#include "plane.h"
#include "streams.h"

using namespace fake;
using iio_bridge::DataPlane;
using iio_bridge::SampleIo;
using iio_bridge::UniqueFd;

namespace {

constexpr DataPlane::Id kIo = 1;

struct Heard {
  SampleIo::Done done() {
    return [this](int status, std::vector<uint8_t> bytes) {
      statuses.push_back(status);
      pieces.push_back(text(bytes));
    };
  }
  std::vector<int> statuses;
  std::vector<std::string> pieces;
};

/** A SampleIo on one end of a socketpair; the other end is the device. */
struct Rig {
  Rig() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) die("no socket");
    device.reset(ends[0]);
    plane.run([fd = ends[1]](DataPlane& p) { p.addSampleIo(kIo, std::make_unique<SampleIo>(UniqueFd(fd))); });
  }
  void device_sends(const std::string& bytes) {
    if (::write(device.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) die("socket full");
    plane.settle();
  }
  void read(size_t least, size_t most, int timeoutMs) {
    plane.run([=, this_ = this](DataPlane& p) { p.sampleIo(kIo)->read(least, most, timeoutMs, this_->heard.done()); });
  }
  Plane plane;
  UniqueFd device;
  Heard heard;
};

}  // namespace

TEST_SUITE("sample I/O") {
  TEST_CASE("reads wait for their least, take at most their most, and are served in order") {
    Rig rig;
    rig.read(4, 6, 0);
    rig.read(1, 100, 0);
    rig.device_sends("abc");
    CHECK(rig.heard.statuses.empty());
    rig.device_sends("defgh");
    CHECK(rig.heard.pieces == std::vector<std::string>{"abcdef", "gh"});
  }

  TEST_CASE("what arrived before a time-out is kept for the next read") {
    Rig rig;
    rig.read(4, 4, 100);
    rig.device_sends("abc");
    rig.plane.advance(std::chrono::milliseconds(99));
    CHECK(rig.heard.statuses.empty());
    rig.plane.advance(std::chrono::milliseconds(1));
    CHECK(rig.heard.statuses == std::vector<int>{-ETIMEDOUT});
    rig.device_sends("d");
    rig.read(4, 4, 100);
    CHECK(rig.heard.pieces.back() == "abcd");
  }

  TEST_CASE("the end of the device is told once, and to every later read") {
    Rig rig;
    rig.read(1, 1, 0);
    rig.device.reset();
    rig.plane.settle();
    CHECK(rig.heard.statuses == std::vector<int>{-EPIPE});
    rig.read(1, 1, 0);
    CHECK(rig.heard.statuses == std::vector<int>{-EPIPE, -EPIPE});
  }

  TEST_CASE("writes wait for room, and a time-out ends one") {
    Rig rig;
    Heard written;
    const auto write = [&](size_t size, int timeoutMs) {
      rig.plane.run([&, size, timeoutMs](DataPlane& p) {
        p.sampleIo(kIo)->write(std::vector<uint8_t>(size, 'w'), timeoutMs, written.done());
      });
    };
    write(10, 0);
    CHECK(written.statuses == std::vector<int>{0});
    write(16 * 1024 * 1024, 50);
    rig.plane.advance(std::chrono::milliseconds(50));
    CHECK(written.statuses == std::vector<int>{0, -ETIMEDOUT});
    write(1, 0);
    CHECK(written.statuses.size() == 2);
    char piece[65536];
    while (::read(rig.device.get(), piece, sizeof piece) > 0) rig.plane.settle();
    CHECK(written.statuses == std::vector<int>{0, -ETIMEDOUT, 0});
  }

  TEST_CASE("who still waits when it is closed hears so") {
    Rig rig;
    rig.read(1, 1, 0);
    rig.plane.run([](DataPlane& p) { p.removeSampleIo(kIo); });
    CHECK(rig.heard.statuses == std::vector<int>{-EBADF});
  }
}
