#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "streams.h"

using namespace fake;
using iio_bridge::Clock;
using iio_bridge::FrameHeader;
using iio_bridge::Link;

namespace {

constexpr size_t kKiB = 1024;

/** Collects what is delivered, and asks for more of the same. */
struct Reader {
  explicit Reader(int bufferBytes = 0) : pair(bufferBytes), link(*pair.link) {}
  void lines(size_t limit) {
    link.pull(Link::Want::kLine, limit, [this, limit](int status, std::vector<uint8_t> piece) {
      statuses.push_back(status);
      pieces.push_back(text(piece));
      if (status == 0) lines(limit);
    });
  }
  void once(Link::Want want, size_t limit) {
    link.pull(want, limit, [this](int status, std::vector<uint8_t> piece) {
      statuses.push_back(status);
      pieces.push_back(text(piece));
    });
  }
  std::vector<int> statuses;
  std::vector<std::string> pieces;
  Pair pair;
  Link& link;
};

}  // namespace

TEST_SUITE("link") {
  TEST_CASE("gives the same pieces however what the client sends is cut") {
    const std::string sent = "VERSION\r\n\nPRINT\n" + std::string(300, 'x') + "\nlast without an end";
    for (unsigned seed = 0; seed < 50; seed++) {
      CAPTURE(seed);
      Reader reader;
      Pair& pair = reader.pair;
        reader.lines(4096);
      std::mt19937 random(seed);
      for (size_t at = 0; at < sent.size();) {
        const size_t step = std::min<size_t>(sent.size() - at, 1 + random() % 40);
        pair.send(sent.substr(at, step));
        at += step;
        pair.turn();
      }
      CHECK(reader.pieces == std::vector<std::string>{"VERSION\r\n", "\n", "PRINT\n", std::string(300, 'x') + "\n"});
    }
  }

  TEST_CASE("mixes lines, bytes and frames, and consumes exactly what it gives") {
    Reader reader;
    Pair& pair = reader.pair;
    pair.send("BINARY\n" + frame(1, 2, 3, 4) + "payload" + frame(5, 6, 7, -8));
    reader.once(Link::Want::kLine, 100);
    pair.turn();
    reader.once(Link::Want::kFrame, 0);
    reader.once(Link::Want::kBytes, 7);
    reader.once(Link::Want::kFrame, 0);
    CHECK(reader.pieces == std::vector<std::string>{"BINARY\n", frame(1, 2, 3, 4), "payload", frame(5, 6, 7, -8)});
  }

  TEST_CASE("tells of a line that is too long, and goes on behind its first part") {
    Reader reader;
    Pair& pair = reader.pair;
    pair.send(std::string(10, 'a') + "b\nshort\n");
    reader.once(Link::Want::kLine, 10);
    pair.turn();
    reader.once(Link::Want::kLine, 10);
    reader.once(Link::Want::kLine, 10);
    CHECK(reader.statuses == std::vector<int>{-E2BIG, 0, 0});
    CHECK(reader.pieces == std::vector<std::string>{std::string(10, 'a'), "b\n", "short\n"});
  }

  TEST_CASE("holds back a client from whom nothing is wanted, and reads as much as is wanted at once") {
    Reader reader;
    Pair& pair = reader.pair;
    const std::string piece(16 * kKiB, 'p');
    size_t sent = 0;
    for (int i = 0; i < 100; i++) {
      if (::send(pair.client.get(), piece.data(), piece.size(), 0) > 0) sent += piece.size();
      pair.turn();
    }
    CHECK(sent < 100 * piece.size());

    reader.once(Link::Want::kBytes, 1024 * kKiB);
    for (int i = 0; i < 200 && reader.pieces.empty(); i++) {
      pair.turn();
      static_cast<void>(::send(pair.client.get(), piece.data(), piece.size(), 0));
    }
    REQUIRE(reader.pieces.size() == 1);
    CHECK(reader.pieces[0] == std::string(1024 * kKiB, 'p'));
  }

  TEST_CASE("answers nobody who does not read the answers, and goes on when they are read") {
    int drained = -1;
    Reader reader;
    Pair& pair = reader.pair;
    pair.link->send(std::vector<uint8_t>(2 * 1024 * kKiB, 'z'));
    pair.send("LINE\n");
    reader.once(Link::Want::kLine, 100);
    pair.turn();
    CHECK(reader.pieces.empty());
    pair.link->drain(0, [&](int status) { drained = status; });
    size_t received = 0;
    for (int i = 0; i < 1000 && drained < 0; i++) {
      received += pair.receive().size();
      pair.turn();
    }
    CHECK(received == 2 * 1024 * kKiB);
    CHECK(drained == 0);
    CHECK(reader.pieces == std::vector<std::string>{"LINE\n"});
  }

  TEST_CASE("serves what a client asked for before it closed its side, then ends") {
    Reader reader;
    Pair& pair = reader.pair;
    pair.send("FIRST\nSECOND\n");
    pair.halfClose();
    reader.once(Link::Want::kLine, 100);
    pair.turn();
    pair.turn();
    CHECK_FALSE(pair.link->closing());
    reader.once(Link::Want::kLine, 100);
    reader.once(Link::Want::kLine, 100);
    CHECK(reader.statuses == std::vector<int>{0, 0, -ESHUTDOWN});
    CHECK(pair.link->closing());
  }

  TEST_CASE("ends when the client is gone; who waits, and who asks later, hears why") {
    int closed = 1;
    int drained = 1;
    Reader reader;
    Pair& pair = reader.pair;
    pair.link->setClosedHandler([&](int reason) { closed = reason; });
    reader.once(Link::Want::kFrame, 0);
    pair.link->send(std::vector<uint8_t>(4 * 1024 * kKiB));
    pair.link->drain(0, [&](int status) { drained = status; });
    pair.hangUp();
    pair.turn();
    pair.turn();
    CHECK(reader.statuses == std::vector<int>{-ECONNRESET});
    CHECK(drained == -ECONNRESET);
    CHECK(closed == -ECONNRESET);
    reader.once(Link::Want::kFrame, 0);
    CHECK(reader.statuses.back() == -ECONNRESET);
  }
}

TEST_SUITE("socket link") {
  TEST_CASE("sends answers and blocks in order, through a socket of any size") {
    for (const int bufferBytes : {0, 4096}) {
      CAPTURE(bufferBytes);
      Pair pair(bufferBytes);
      std::vector<int> sent;
      std::string expected;
      for (int i = 0; i < 5; i++) {
        pair.link->send(bytes(std::string(3, static_cast<char>('0' + i))));
        const auto block = memoryBlock(100 * kKiB + static_cast<size_t>(i), static_cast<char>('a' + i));
        pair.link->sendBlock(heads(7, i), block, [&sent, i](int status) { sent.push_back(status == 0 ? i : -1); });
        expected += std::string(3, static_cast<char>('0' + i)) + frame(7, 0, 0, i) +
                    std::string(100 * kKiB + static_cast<size_t>(i), static_cast<char>('a' + i));
      }
      std::string received;
      for (int i = 0; i < 10000 && received.size() < expected.size(); i++) {
        received += pair.receive();
        pair.turn();
      }
      CHECK(received == expected);
      CHECK(sent == std::vector<int>{0, 1, 2, 3, 4});
    }
  }

  TEST_CASE("a block that is abandoned before it has begun to leave is not sent; one that has begun is, whole") {
    Pair pair(4096);
    bool told = false;
    const auto first = memoryBlock(1024 * kKiB, 'a');
    auto second = memoryBlock(10, 'b');
    pair.link->sendBlock(heads(1, 1), first, [&](int) { told = true; });
    pair.link->sendBlock(heads(2, 2), second, [&](int) { told = true; });
    CHECK_FALSE(pair.link->abandon(*first.block));
    CHECK(pair.link->abandon(*second.block));
    const std::weak_ptr<iio_bridge::Block> gone = second.block;
    second.block.reset();
    CHECK(gone.expired());
    pair.link->send(bytes("end"));
    std::string received;
    for (int i = 0; i < 10000; i++) {
      received += pair.receive();
      pair.turn();
    }
    CHECK(received == frame(1, 0, 0, 1) + std::string(1024 * kKiB, 'a') + "end");
    CHECK_FALSE(told);
  }

  TEST_CASE("what hears that a block was sent may send the next one") {
    Pair pair;
    int rounds = 0;
    const auto block = memoryBlock(1000, 'r');
    std::function<void(int)> again = [&](int) {
      if (++rounds < 100) pair.link->sendBlock(heads(0, 1000), block, again);
    };
    again(0);
    std::string received;
    for (int i = 0; i < 1000; i++) {
      received += pair.receive();
      pair.turn();
    }
    CHECK(rounds == 100);
    CHECK(received.size() == 99 * 1008);
  }
}
