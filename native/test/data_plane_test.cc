#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <thread>

#include "../src/uapi.h"
#include "plane.h"
#include "streams.h"

using namespace fake;
using iio_bridge::DataPlane;
using iio_bridge::Link;
using iio_bridge::SampleIo;
using iio_bridge::SocketLink;
using iio_bridge::UniqueFd;

TEST_SUITE("data plane") {
  TEST_CASE("echoes on many links at once while other threads open, use and close them") {
    constexpr int kThreads = 6;
    constexpr int kRounds = 40;
    Kernel kernel;
    DataPlane plane;
    std::atomic<int> closed{0};
    std::vector<std::thread> clients;
    for (int t = 0; t < kThreads; t++) {
      clients.emplace_back([&, t] {
        for (int round = 0; round < kRounds; round++) {
          const auto id = static_cast<DataPlane::Id>(t * kRounds + round + 1);
          int ends[2];
          if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) die("no socket");
          const UniqueFd client(ends[0]);
          plane.post([&, id, fd = ends[1]] {
            auto link = std::make_unique<SocketLink>(UniqueFd(fd));
            link->setClosedHandler([&](int) { closed++; });
            plane.addLink(id, std::move(link));
          });
          const std::string sent = "round " + std::to_string(round) + "\n";
          std::promise<std::string> line;
          plane.post([&, id] {
            plane.link(id)->pull(Link::Want::kLine, 100, [&, id](int, std::vector<uint8_t> bytes) {
              plane.link(id)->send(bytes);
              line.set_value(text(bytes));
            });
          });
          static_cast<void>(::write(client.get(), sent.data(), sent.size()));
          char echo[100];
          const ssize_t count = ::recv(client.get(), echo, sent.size(), MSG_WAITALL);
          if (line.get_future().get() != sent || std::string(echo, static_cast<size_t>(count)) != sent) die("no echo");
          if (round % 2 == 0) plane.post([&, id] { plane.closeLink(id); });
        }
      });
    }
    for (auto& client : clients) client.join();
    CHECK(plane.shutdown());
    CHECK(closed == kThreads * kRounds);
  }

  TEST_CASE("commands posted while it shuts down run or are dropped, and it ends") {
    for (int round = 0; round < 50; round++) {
      Kernel kernel;
      DataPlane plane;
      std::atomic<int> ran{0};
      std::thread poster([&] {
        for (int i = 0; i < 200; i++) plane.post([&] { ran++; });
      });
      CHECK(plane.shutdown());
      poster.join();
      CHECK(ran <= 200);
    }
  }

  TEST_CASE("tells of ep0's events, and leaves it alone until a control request is answered") {
    Plane plane;
    const auto opened = plane.kernel.openEp0();
    const UniqueFd ep0(opened.fd);
    std::vector<int> events;
    plane.run([&](DataPlane& p) {
      p.watchEp0(opened.fd, [&](const iio_bridge::uapi::FfsEvent& event) { events.push_back(event.type); });
    });
    plane.kernel.usb().reset();
    plane.settle();
    CHECK(events == std::vector<int>{3, 2});
    plane.kernel.usb().setup();
    plane.settle();
    plane.kernel.usb().reset();
    plane.settle();
    CHECK(events == std::vector<int>{3, 2, 4});
    opened.file->answered();
    plane.run([](DataPlane& p) { p.resumeEp0(); });
    CHECK(events == std::vector<int>{3, 2, 4, 3, 2});
    plane.run([](DataPlane& p) { p.unwatchEp0(); });
  }

  TEST_CASE("closes USB links when the bus goes, and only when their requests have come back") {
    Plane plane;
    const auto ep0 = plane.kernel.openEp0();
    const UniqueFd ep0Fd(ep0.fd);
    const Wire wire = Wire::usb(plane.kernel, 512);
    int closed = 1;
    plane.run([&](DataPlane& p) {
      p.watchEp0(ep0.fd, [](const iio_bridge::uapi::FfsEvent&) {});
      auto link = wire.makeLink(p);
      link->setClosedHandler([&](int reason) { closed = reason; });
      p.addLink(1, std::move(link));
      p.link(1)->send(bytes("an answer that nobody fetches"));
      p.link(1)->pull(Link::Want::kLine, 100, [](int, std::vector<uint8_t>) {});
    });
    CHECK(wire.in->queued() == 1);
    CHECK(wire.out->queued() == 16);
    plane.kernel.holdCompletions(true);
    plane.kernel.usb().unbind();
    plane.settle();
    CHECK(closed == 1);
    plane.kernel.holdCompletions(false);
    plane.advance(std::chrono::milliseconds(2));
    CHECK(closed == -ESHUTDOWN);
    plane.run([](DataPlane& p) { p.unwatchEp0(); });
  }

  TEST_CASE("a client that leaves its last answer unread is given up after a second") {
    Plane plane;
    const Wire wire = Wire::socketPair();
    std::vector<std::string> lines;
    int closed = 1;
    plane.run([&](DataPlane& p) {
      auto link = wire.makeLink(p);
      link->setClosedHandler([&](int reason) { closed = reason; });
      p.addLink(1, std::move(link));
      p.link(1)->pull(Link::Want::kLine, 100,
                      [&](int, std::vector<uint8_t> bytes) { lines.push_back(text(bytes)); });
    });
    static_cast<void>(::write(wire.socket.get(), "PRINT\n", 6));
    ::shutdown(wire.socket.get(), SHUT_WR);
    plane.settle();
    plane.settle();
    CHECK(lines == std::vector<std::string>{"PRINT\n"});
    plane.advance(std::chrono::milliseconds(900));
    CHECK(closed == 1);
    // With the client's end of the line only noticed when somebody reads again, the clock starts anew.
    plane.run([](DataPlane& p) { p.link(1)->pull(Link::Want::kLine, 100, [](int, std::vector<uint8_t>) {}); });
    plane.advance(std::chrono::milliseconds(2));
    CHECK(closed == -ESHUTDOWN);
  }
}
