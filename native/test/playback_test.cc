// The way of an output's blocks, as a model test: what is played are whole requests in the order in which they were made,
// whatever happens meanwhile, and every request is answered once.

#include <doctest/doctest.h>

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <random>
#include <utility>

#include "../src/playback.h"
#include "../src/uapi.h"
#include "plane.h"
#include "seeds.h"
#include "streams.h"

using namespace fake;
using iio_bridge::DataPlane;
using iio_bridge::FrameHeader;
using iio_bridge::Link;
using iio_bridge::Playback;
using iio_bridge::UniqueFd;
namespace uapi = iio_bridge::uapi;

namespace {

constexpr uint8_t kTransferOp = 11;
constexpr uint8_t kRetryOp = 12;
constexpr uint8_t kDevice = 1;
constexpr size_t kSetBytes = 8;
constexpr int kTimeoutMs = 1000;
constexpr size_t kPacketBytes = 512;
constexpr size_t kMostBytes = 4096;
constexpr DataPlane::Id kId = 1;

/** A data plane with one output, and a client of it on one link. Its sample sets are numbered through. */
class Player {
 public:
  struct Options {
    bool usb = true;
    bool takesDmabufs = true;
    bool sourceByCopy = false;
  };

  explicit Player(const Options& options) {
    const auto opened = plane.kernel.openIioBuffer(IioBuffer::Direction::kOutput);
    dac = opened.file;
    dac->takesDmabufs = options.takesDmabufs;
    Playback::Options wanted;
    wanted.device = kDevice;
    wanted.transferOp = kTransferOp;
    wanted.retryOp = kRetryOp;
    wanted.timeoutMs = kTimeoutMs;
    wanted.sampleBytes = kSetBytes;
    wanted.maxPayloadBytes = 2 * kMostBytes;
    wanted.sourceByCopy = options.sourceByCopy;
    wire_ = options.usb ? Wire::usb(plane.kernel, kPacketBytes) : Wire::socketPair();
    plane.run([&](DataPlane& p) {
      auto link = wire_.makeLink(p);
      link->setClosedHandler([this](int) { isOpen = false; });
      pull(*link);
      auto playback = std::make_unique<Playback>(UniqueFd(opened.fd), UniqueFd(), wanted);
      playback->connect(*link);
      p.addLink(kId, std::move(link));
      p.addPlayback(kId, std::move(playback));
    });
  }
  ~Player() {
    plane.kernel.holdCompletions(false);
    plane.end();
    // Its descriptor went with the data plane.
    if (dac->enabled()) dac->disable();
  }

  void run(const std::function<void(Playback&)>& command) {
    plane.run([&](DataPlane& p) { command(*p.playback(kId)); });
  }
  int createBlock(uint16_t index, size_t size) {
    int status = 1;
    const int memory = plane.kernel.makeDmabuf(size).fd;
    run([&](Playback& playback) { status = playback.createBlock(index, index, UniqueFd(memory), size); });
    return status;
  }
  void enable() {
    dac->enable();
    run([](Playback& playback) { playback.start(1e6); });
  }
  void disable() {
    run([](Playback& playback) { playback.stop(); });
    dac->disable();
    run([](Playback& playback) { playback.settle(); });
  }

  /** A request for so many bytes; returns its first sample set's number. */
  uint64_t ask(uint16_t index, uint64_t bytes, bool together = false) {
    std::string request = fake::frame(1, kTransferOp, kDevice, index << 16);
    request.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
    std::vector<uint64_t> sets(bytes / kSetBytes);
    const uint64_t first = next_;
    for (uint64_t& set : sets) set = next_++;
    const std::string samples(reinterpret_cast<const char*>(sets.data()), bytes);
    if (together) {
      send(request + samples);
    } else {
      send(request);
      send(samples);
    }
    return first;
  }
  void retry(uint16_t index) { send(fake::frame(1, kRetryOp, kDevice, index << 16)); }

  /** The answers that have come since the last call: block → code. */
  std::vector<std::pair<uint16_t, int32_t>> answers() {
    if (wire_.in) {
      while (wire_.in->hostTakes()) plane.settle();
      received_ = text(wire_.in->taken());
    } else {
      char piece[4096];
      ssize_t count;
      while ((count = ::recv(wire_.socket.get(), piece, sizeof piece, 0)) > 0) {
        received_.append(piece, static_cast<size_t>(count));
      }
    }
    std::vector<std::pair<uint16_t, int32_t>> found;
    for (FrameHeader header; parsed_ + sizeof header <= received_.size(); parsed_ += sizeof header) {
      std::memcpy(&header, received_.data() + parsed_, sizeof header);
      found.emplace_back(+header.clientId, +header.code);
    }
    return found;
  }

  std::vector<uint64_t> played() const {
    const Bytes& bytes = dac->played();
    std::vector<uint64_t> sets(bytes.size() / kSetBytes);
    if (!sets.empty()) std::memcpy(sets.data(), bytes.data(), sets.size() * kSetBytes);
    return sets;
  }

  Plane plane;
  std::shared_ptr<IioBuffer> dac;
  bool isOpen = true;

 private:
  void send(const std::string& bytes) {
    if (wire_.out) {
      wire_.out->hostSends(fake::bytes(bytes));
    } else if (::send(wire_.socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) {
      die("the socket did not take what the client sends");
    }
    plane.settle();
  }
  /** TypeScript's side: refuses requests for blocks that are gone, and takes their payload. */
  void pull(Link& link) {
    link.pull(Link::Want::kFrame, sizeof(FrameHeader), [this, &link](int status, const std::vector<uint8_t>& bytes) {
      if (status != 0) return;
      FrameHeader header;
      std::memcpy(&header, bytes.data(), sizeof header);
      if (header.op == kTransferOp) return pullLength(link, iio_bridge::blockIndexOf(header));
      link.sendResponse(iio_bridge::blockIndexOf(header), -EBADF);
      pull(link);
    });
  }
  void pullLength(Link& link, uint16_t index) {
    link.pull(Link::Want::kBytes, sizeof(uint64_t), [=, &link](int status, const std::vector<uint8_t>& bytes) {
      if (status != 0) return;
      uint64_t length;
      std::memcpy(&length, bytes.data(), sizeof length);
      link.pull(Link::Want::kBytes, length, [=, &link](int payloadStatus, const std::vector<uint8_t>&) {
        if (payloadStatus != 0) return;
        link.sendResponse(index, iio_bridge::enqueueError(-EBADF));
        pull(link);
      });
    });
  }

  Wire wire_;
  std::string received_;
  size_t parsed_ = 0;
  uint64_t next_ = 0;
};

using Answers = std::vector<std::pair<uint16_t, int32_t>>;

/** One seeded life of an output. */
class PlayLife {
 public:
  explicit PlayLife(unsigned seed) : random_(seed), player_(options()) {}

  void step() {
    switch (pick(16)) {
      case 0:
      case 1:
        pick(3) == 0 ? freeBlock() : createBlock();
        break;
      case 2:
      case 3:
      case 4:
      case 5:
      case 6:
        ask();
        break;
      case 7:
        if (!enabled_) {
          enable();
        } else if (pick(5) == 0) {
          disable();
        }
        break;
      case 8:
        if (pick(6) == 0) rareEvent();
        break;
      case 9:
        retry();
        break;
      case 10:
        player_.plane.advance(std::chrono::milliseconds(pick(5) == 0 ? kTimeoutMs : 3));
        break;
      case 11:
        if (pick(4) == 0) player_.plane.kernel.holdCompletions(pick(2) == 0);
        if (player_.plane.kernel.heldCompletions() > 0) player_.plane.kernel.deliver(0);
        break;
      default:
        hardware();
    }
    player_.plane.settle();
    check();
  }

  void expectAnswers() {
    player_.plane.kernel.holdCompletions(false);
    if (enabled_) disable();
    enable();
    for (int i = 0; i < 50; i++) {
      hardware();
      player_.plane.settle();
    }
    check();
    REQUIRE(player_.isOpen);
    for (const auto& [index, block] : blocks_) {
      CAPTURE(index);
      // One that has been told of a time-out waits for its client.
      CHECK(block.owed == 0);
      CHECK(block.refused == 0);
    }
  }

  /** What is under way is cut off, in some order; the data plane's own end comes last. */
  void endAnyhow() {
    for (int i = 0; i < 3; i++) {
      note("end " + std::to_string(i));
      switch (pick(5)) {
        case 0:
          player_.plane.run([](DataPlane& p) { p.closeLink(kId); });
          break;
        case 1:
          player_.plane.kernel.usb().reset();
          break;
        case 2:
          if (enabled_) disable();
          player_.plane.run([](DataPlane& p) { p.removePlayback(kId); });
          return;
        case 3:
          freeBlock();
          break;
        default:
          hardware();
      }
      player_.plane.settle();
    }
  }

  uint64_t played() const { return playedRequests_; }

 private:
  struct Block {
    size_t size = 0;
    int owed = 0;
    int refused = 0;  // requests whose refusal is to come
    bool timedOut = false;
    uint64_t first = 0;  // of the latest request
    uint64_t count = 0;
  };

  unsigned pick(unsigned count) { return random_() % count; }
  Player::Options options() {
    Player::Options options;
    options.usb = pick(3) != 0;
    options.takesDmabufs = pick(4) != 0;
    options.sourceByCopy = pick(4) == 0;
    isWritten_ = !options.takesDmabufs;
    return options;
  }
  void note(const std::string& what) { player_.plane.kernel.note(what); }

  void enable() {
    player_.enable();
    enabled_ = true;
  }
  void disable() {
    player_.disable();
    enabled_ = false;
  }

  void createBlock() {
    if (blocks_.size() >= 5) return;
    const size_t size = kSetBytes * (1 + pick(kMostBytes / kSetBytes));
    const uint16_t index = nextIndex_++;
    const int status = player_.createBlock(index, size);
    note("creates " + std::to_string(index) + ", " + std::to_string(size) + ": " + std::to_string(status));
    REQUIRE(status == 0);
    blocks_[index].size = size;
  }

  std::map<uint16_t, Block>::iterator anyBlock() {
    return std::next(blocks_.begin(), pick(static_cast<unsigned>(blocks_.size())));
  }

  void freeBlock() {
    if (blocks_.empty()) return;
    const auto block = anyBlock();
    const uint16_t index = block->first;
    note("frees " + std::to_string(index));
    blocks_.erase(block);
    player_.run([&](Playback& playback) { playback.freeBlock(index); });
  }

  void ask() {
    if (blocks_.empty()) return;
    auto& [index, block] = *anyBlock();
    // A request that is refused, by its size; its payload is consumed.
    const bool isTooLong = pick(12) == 0;
    if (!isTooLong && (block.owed > 0 || block.timedOut)) return;
    const uint64_t most = block.size / kSetBytes;
    const uint64_t sets = isTooLong ? most + 1 : pick(3) == 0 ? 1 + pick(static_cast<unsigned>(most)) : most;
    note("asks for " + std::to_string(index) + ", " + std::to_string(sets) + " sets");
    const uint64_t first = player_.ask(index, sets * kSetBytes, pick(5) == 0);
    if (isTooLong) {
      block.refused++;
      return;
    }
    block.owed = 1;
    block.first = first;
    block.count = sets;
  }

  void retry() {
    for (auto& [index, block] : blocks_) {
      if (!block.timedOut) continue;
      note("retries " + std::to_string(index));
      block.timedOut = false;
      block.owed = 1;
      return player_.retry(index);
    }
  }

  void hardware() {
    if (isWritten_) return player_.dac->makeReady(kSetBytes * (1 + pick(200)));
    for (unsigned i = 0; i < 1 + pick(3); i++) player_.dac->transferBlock();
  }

  void rareEvent() {
    switch (pick(3)) {
      case 0:
        if (!isWritten_) player_.dac->transferBlock(-EIO);
        return;
      case 1:
        if (isWritten_ || pick(3) != 0) return;
        // Its fence is over before it can be exported, so that nobody can tell it from one that was played.
        player_.dac->refusePreparation();
        contentIsKnown_ = false;
        return;
      default:
        // Another program.
        if (!isWritten_ && enabled_) player_.dac->disableBehindItsBack();
    }
  }

  void check() {
    const std::vector<uint64_t> played = player_.played();
    for (size_t i = std::max<size_t>(std::exchange(checked_, played.size()), 1); i < played.size(); i++) {
      REQUIRE(played[i] > played[i - 1]);
    }
    for (const auto& [index, code] : player_.answers()) {
      note("answer of " + std::to_string(index) + ": " + std::to_string(code));
      CAPTURE(index);
      CAPTURE(code);
      const auto found = blocks_.find(index);
      if (found == blocks_.end()) continue;
      Block& block = found->second;
      if (code == iio_bridge::enqueueError(-EINVAL)) {
        REQUIRE(block.refused-- > 0);
        continue;
      }
      REQUIRE(block.owed-- == 1);
      block.timedOut = code == -ETIMEDOUT;
      if (code != 0 || !contentIsKnown_) continue;
      playedRequests_++;
      // Whole, and by now.
      const auto first = std::lower_bound(played.begin(), played.end(), block.first);
      REQUIRE(played.end() - first >= static_cast<ptrdiff_t>(block.count));
      for (uint64_t i = 0; i < block.count; i++) REQUIRE(first[static_cast<ptrdiff_t>(i)] == block.first + i);
    }
  }

  std::mt19937 random_;
  bool isWritten_ = false;
  Player player_;
  std::map<uint16_t, Block> blocks_;
  uint16_t nextIndex_ = 0;
  bool enabled_ = false;
  bool contentIsKnown_ = true;
  size_t checked_ = 0;
  uint64_t playedRequests_ = 0;
};

}  // namespace

TEST_SUITE("playback") {
  TEST_CASE("a block whose transfer the driver could not prepare is played when it is sent again") {
    Player player({});
    REQUIRE(player.createBlock(0, 1024) == 0);
    player.enable();
    player.dac->refusePreparation();
    player.ask(0, 1024);
    REQUIRE(player.answers().size() == 1);
    const uint64_t first = player.ask(0, 1024);
    CHECK(player.dac->transferBlock());
    player.plane.settle();
    CHECK(player.answers() == Answers{{0, 0}});
    REQUIRE(player.played().size() == 128);
    CHECK(player.played()[0] == first);
  }

  TEST_CASE("a buffer that another program has disabled is given no more blocks until it is enabled again") {
    Player player({});
    for (uint16_t index = 0; index < 2; index++) REQUIRE(player.createBlock(index, 1024) == 0);
    player.enable();
    player.ask(0, 1024);
    player.dac->disableBehindItsBack();
    player.plane.settle();
    CHECK(player.answers() == Answers{{0, -EINTR}});
    player.ask(1, 1024);
    CHECK(player.answers() == Answers{{1, iio_bridge::enqueueError(-EINTR)}});
    player.disable();
    player.enable();
    player.ask(1, 1024);
    CHECK(player.dac->transferBlock());
    player.plane.settle();
    CHECK(player.answers() == Answers{{1, 0}});
  }

  TEST_CASE("plays whole requests in their order and answers each, whatever happens in whatever order") {
    const Seeds seeds(40);
    constexpr int kSteps = 200;
    uint64_t played = 0;
    for (unsigned seed = seeds.first; seed < seeds.first + seeds.count; seed++) {
      CAPTURE(seed);
      PlayLife life(seed);
      for (int i = 0; i < kSteps; i++) life.step();
      if (seed % 3 == 0) {
        life.endAnyhow();
      } else {
        life.expectAnswers();
      }
      played += life.played();
    }
    // A test of nothing would pass, too.
    CAPTURE(played);
    CHECK((seeds.count < 10 || played > seeds.count * 5));
  }
}
