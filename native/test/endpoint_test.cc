#include <doctest/doctest.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "../src/in_endpoint.h"
#include "../src/out_endpoint.h"
#include "../src/uapi.h"
#include "streams.h"

using namespace fake;
using iio_bridge::Aio;
using iio_bridge::Block;
using iio_bridge::BlockPart;
using iio_bridge::Bus;
using iio_bridge::InEndpoint;
using iio_bridge::OutEndpoint;
using iio_bridge::Payload;
using iio_bridge::Poller;
using iio_bridge::UniqueFd;
namespace uapi = iio_bridge::uapi;

namespace {

constexpr size_t kKiB = 1024;

/** An InEndpoint on a fake one, without a thread. */
struct InRig {
  InRig() : file(kernel.openEndpoint(Endpoint::Direction::kIn)) {
    endpoint = std::make_unique<InEndpoint>(aio, bus, UniqueFd(file.fd), [this](int error) { failures.push_back(error); });
  }
  ~InRig() {
    if (endpoint) close();
  }

  BlockPart dmabufBlock(size_t size, char fill) {
    auto block = std::make_shared<Block>();
    const auto dmabuf = kernel.makeDmabuf(size);
    block->dmabuf.reset(dmabuf.fd);
    block->size = size;
    dmabuf.file->store(0, std::string(size, fill).data(), size);
    return {block, 0, size, endpoint->attach(dmabuf.fd) == 0};
  }
  void send(BlockPart part, int tag) {
    endpoint->sendBlock(heads(0, tag), std::move(part), [this, tag](int status) {
      sent.push_back(status == 0 ? tag : status);
    });
  }
  void turn() {
    poller.clear();
    endpoint->collect(poller);
    poller.wait(0);
    aio.reap();
  }
  void take(size_t transfers) {
    for (size_t i = 0; i < transfers; i++) {
      if (!file.file->hostTakes()) return;
      turn();
    }
  }
  bool close() {
    for (int i = 0; i < 10; i++) {
      if (endpoint->close()) {
        endpoint.reset();
        return true;
      }
      aio.reap();
    }
    return false;
  }

  Kernel kernel;
  Aio aio;
  Kernel::Opened<Endpoint> file;
  Bus bus{aio};
  std::unique_ptr<InEndpoint> endpoint;
  Poller poller;
  std::vector<int> failures;
  std::vector<int> sent;
};

}  // namespace

TEST_SUITE("AIO") {
  struct Owner : iio_bridge::AioOwner {
    void onAioDone(iio_bridge::AioRequest& request, long result) override { done.emplace_back(request.tag, result); }
    std::vector<std::pair<unsigned, long>> done;
  };

  TEST_CASE("hands out completions from the ring, and where it cannot be read, by a system call") {
    for (const bool hidden : {false, true}) {
      CAPTURE(hidden);
      Kernel kernel;
      if (hidden) kernel.hideRings();
      Aio aio;
      const auto opened = kernel.openEndpoint(Endpoint::Direction::kIn);
      const UniqueFd fd(opened.fd);
      Owner owner;
      std::vector<iio_bridge::AioRequest> requests(3000);
      std::vector<std::pair<unsigned, long>> expected;
      // More than the ring holds, so that it is gone round several times.
      for (unsigned tag = 0; tag < requests.size(); tag++) {
        requests[tag].owner = &owner;
        requests[tag].tag = tag;
        const uint8_t data = 0;
        aio.prepareWrite(requests[tag], fd.get(), &data, 1, Aio::Notify::kYes);
        iio_bridge::AioRequest* request = &requests[tag];
        REQUIRE(aio.submit(&request, 1) == 1);
        opened.file->hostTakes();
        if (tag % 700 == 0) aio.reap();
        expected.emplace_back(tag, 1);
      }
      aio.reap();
      CHECK(owner.done == expected);
    }
  }

  TEST_CASE("says when the context is full, and goes on when it has been emptied") {
    Kernel kernel;
    Aio aio;
    const auto opened = kernel.openEndpoint(Endpoint::Direction::kIn);
    const UniqueFd fd(opened.fd);
    Owner owner;
    std::vector<iio_bridge::AioRequest> requests(2000);
    size_t taken = 0;
    for (auto& request : requests) {
      request.owner = &owner;
      const uint8_t data = 0;
      aio.prepareWrite(request, fd.get(), &data, 1, Aio::Notify::kNo);
      iio_bridge::AioRequest* submitted = &request;
      const int result = aio.submit(&submitted, 1);
      if (result != 1) {
        CHECK(result == -EAGAIN);
        break;
      }
      taken++;
    }
    CHECK(taken >= 1024);
    while (opened.file->hostTakes()) aio.reap();
    CHECK(owner.done.size() == taken);
  }
}

TEST_SUITE("IN endpoint") {
  TEST_CASE("a header and its payload stay adjacent, whichever way each goes") {
    InRig rig;
    std::string expected;
    for (int i = 0; i < 40; i++) {
      const size_t size = i % 3 == 0 ? 300 * kKiB : 1000;
      const char fill = static_cast<char>('a' + i % 26);
      rig.send(i % 2 == 0 ? rig.dmabufBlock(size, fill) : memoryBlock(size, fill), i);
      rig.endpoint->send(bytes("answer"));
      expected += frame(0, 0, 0, i) + std::string(size, fill) + "answer";
    }
    rig.take(10000);
    CHECK(text(rig.file.file->taken()) == expected);
    CHECK(rig.sent.size() == 40);
    CHECK(std::is_sorted(rig.sent.begin(), rig.sent.end()));
    CHECK(rig.endpoint->unsentBytes() == 0);
    CHECK(rig.failures.empty());
  }

  TEST_CASE("an abandoned block goes on where its header has left, is detached then, and is forgotten otherwise") {
    InRig rig;
    const auto first = rig.dmabufBlock(4096, 'a');
    const auto second = rig.dmabufBlock(4096, 'b');
    rig.send(first, 1);
    rig.send(second, 2);
    CHECK_FALSE(rig.endpoint->abandon(*second.block));
    rig.endpoint->detach(second.block->dmabuf.get());
    // More than the endpoint has room for, so that the last ones have not begun.
    for (int i = 0; i < 20; i++) rig.send(memoryBlock(1000, 'm'), 3 + i);
    const auto last = rig.dmabufBlock(4096, 'z');
    rig.send(last, 99);
    CHECK(rig.endpoint->abandon(*last.block));
    rig.endpoint->detach(last.block->dmabuf.get());
    rig.take(100);
    std::string expected = frame(0, 0, 0, 1) + std::string(4096, 'a') + frame(0, 0, 0, 2) + std::string(4096, 'b');
    for (int i = 0; i < 20; i++) expected += frame(0, 0, 0, 3 + i) + std::string(1000, 'm');
    CHECK(text(rig.file.file->taken()) == expected);
    CHECK(rig.sent.size() == 21);
    CHECK(rig.failures.empty());
    // Detached, once: there is nothing left to detach.
    int dmabuf = second.block->dmabuf.get();
    CHECK(::ioctl(rig.file.fd, uapi::kFfsDmabufDetach, &dmabuf) == -1);
    CHECK(errno == EPERM);
  }

  TEST_CASE("closes only when every request has come back, and takes nothing out of the middle") {
    InRig rig;
    for (int i = 0; i < 4; i++) rig.send(i % 2 == 0 ? rig.dmabufBlock(4096, 'd') : memoryBlock(400 * kKiB, 'm'), i);
    rig.kernel.holdCompletions(true);
    CHECK_FALSE(rig.endpoint->close());
    CHECK(rig.file.file->queued() == 0);
    CHECK(rig.file.file->taken().empty());
    rig.aio.reap();
    CHECK_FALSE(rig.endpoint->close());
    rig.kernel.holdCompletions(false);
    CHECK(rig.close());
    CHECK(rig.sent.empty());
  }

  TEST_CASE("fails once when the bus goes away, and asks nothing of an unbound controller") {
    InRig rig;
    rig.send(rig.dmabufBlock(4096, 'd'), 1);
    rig.send(memoryBlock(400 * kKiB, 'm'), 2);
    rig.kernel.usb().unbind();
    rig.turn();
    CHECK(rig.failures == std::vector<int>{-ESHUTDOWN});
    rig.endpoint->stop(true);
    CHECK(rig.close());
  }

  TEST_CASE("takes from the ring whether there is a controller to transfer to, whatever ep0 says") {
    InRig rig;
    const auto ep0 = rig.kernel.openEp0();
    const UniqueFd ep0Fd(ep0.fd);
    rig.bus.watch(ep0.fd);
    rig.send(memoryBlock(4096, 'm'), 1);
    rig.kernel.usb().setup();
    const BlockPart first = rig.dmabufBlock(4096, 'd');
    const BlockPart second = rig.dmabufBlock(4096, 'e');
    rig.send(first, 2);
    CHECK(rig.file.file->queued() == 4);
    // A control request waits for its answer: ep0 must not be polled, and has nothing new to tell.
    rig.bus.setBusy(true);
    rig.kernel.usb().unbind();
    rig.send(second, 3);
    rig.endpoint->detach(second.block->dmabuf.get());
    CHECK(rig.failures.empty());
    rig.turn();
    CHECK(rig.failures == std::vector<int>{-ESHUTDOWN});
    rig.endpoint->stop(true);
  }

  TEST_CASE("fails when the kernel refuses a transfer, or to say when it ends") {
    for (const unsigned long request : {uapi::kFfsDmabufTransfer, uapi::kDmaBufExportSyncFile}) {
      InRig rig;
      const auto block = rig.dmabufBlock(4096, 'd');
      rig.kernel.failIoctl(request, EMFILE);
      rig.send(block, 1);
      CHECK(rig.sent == std::vector<int>{-EMFILE});
      CHECK(rig.failures == std::vector<int>{-EMFILE});
      rig.endpoint->stop(true);
    }
  }
}

TEST_SUITE("OUT endpoint") {
  TEST_CASE("gives the bytes of transfers of any length in order, whatever the order of their completions") {
    for (unsigned seed = 0; seed < 30; seed++) {
      CAPTURE(seed);
      Kernel kernel;
      Aio aio;
      std::mt19937 random(seed);
      const auto file = kernel.openEndpoint(Endpoint::Direction::kOut, 512);
      Bytes received;
      const Bus bus{aio};
      OutEndpoint endpoint(
          aio, bus, UniqueFd(file.fd), 512,
          [&](const uint8_t* data, size_t count) { received.insert(received.end(), data, data + count); },
          [](int) { FAIL("no failure was due"); });
      kernel.holdCompletions(true);
      Bytes expected;
      for (int step = 0; step < 400; step++) {
        if (random() % 3 == 0) {
          constexpr size_t kLengths[] = {0, 1, 8, 511, 512, 513, 1024, 5000};
          Bytes transfer(kLengths[random() % 8]);
          for (uint8_t& byte : transfer) byte = static_cast<uint8_t>(random());
          expected.insert(expected.end(), transfer.begin(), transfer.end());
          file.file->hostSends(std::move(transfer));
        }
        if (random() % 2 == 0) endpoint.arm(nullptr);
        if (kernel.heldCompletions() > 0) kernel.deliver(random() % kernel.heldCompletions());
        if (random() % 2 == 0) aio.reap();
      }
      kernel.holdCompletions(false);
      for (int i = 0; i < 200; i++) {
        aio.reap();
        endpoint.arm(nullptr);
      }
      CHECK(file.file->hostUnsent() == 0);
      CHECK(received == expected);
      while (!endpoint.close()) aio.reap();
    }
  }

  TEST_CASE("puts payloads in their place, however the client cuts its transfers and however late their ends are seen") {
    for (unsigned seed = 0; seed < 20; seed++) {
      CAPTURE(seed);
      Kernel kernel;
      Aio aio;
      std::mt19937 random(seed);
      const auto file = kernel.openEndpoint(Endpoint::Direction::kOut, 1024);
      const Bus bus{aio};
      const size_t length = 256 * kKiB;
      std::unique_ptr<Payload> payload;
      const auto place = [&](const uint8_t* data, size_t count) {
        REQUIRE(count <= payload->left());
        uint8_t* to = payload->place(0);
        if (to != data) std::memmove(to, data, count);
        payload->placed += count;
      };
      OutEndpoint endpoint(aio, bus, UniqueFd(file.fd), 1024, place, [](int) { FAIL("no failure was due"); });
      for (int i = 0; i < 10; i++) {
        payload = std::make_unique<Payload>();
        payload->block = std::make_shared<Block>();
        payload->block->size = payload->length = length;
        Bytes sent(length);
        for (uint8_t& byte : sent) byte = static_cast<uint8_t>(random());
        const size_t cut = 5000 + random() % 10'000;
        size_t begin = 0;
        while (payload->left() > 0) {
          endpoint.arm(payload.get());
          // Few, so that reads are posted behind such as wait; and now and then so many that several end unseen.
          for (size_t transfers = random() % (random() % 2 == 0 ? 24 : 3); transfers > 0 && begin < length; transfers--) {
            const size_t end = std::min(length, begin + cut);
            file.file->hostSends(Bytes(sent.begin() + static_cast<ptrdiff_t>(begin), sent.begin() + static_cast<ptrdiff_t>(end)));
            begin = end;
          }
          if (random() % 2 == 0) aio.reap();
        }
        const uint8_t* received = payload->block->memory.data();
        CHECK(std::equal(sent.begin(), sent.end(), received));
      }
      while (!endpoint.close()) aio.reap();
    }
  }
}
