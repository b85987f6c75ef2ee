// The way of a capture's blocks, as a model test: whatever happens in whatever order, the kernel lives, every sample
// reaches its client in order or is reported as lost, and every request is answered once.

#include <doctest/doctest.h>

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <random>

#include "../src/block_reader.h"
#include "../src/capture.h"
#include "../src/uapi.h"
#include "plane.h"
#include "seeds.h"
#include "streams.h"

using namespace fake;
using iio_bridge::BlockPath;
using iio_bridge::BlockReader;
using iio_bridge::BlockRecord;
using iio_bridge::Capture;
using iio_bridge::DataPlane;
using iio_bridge::FrameHeader;
using iio_bridge::Link;
using iio_bridge::Reader;
using iio_bridge::RingPolicy;
using iio_bridge::SourceKind;
using iio_bridge::UniqueFd;
namespace uapi = iio_bridge::uapi;

namespace {

constexpr uint8_t kTransferOp = 11;
constexpr uint8_t kRetryOp = 12;
constexpr uint8_t kOtherOp = 3;
constexpr uint8_t kRecordOp = 0xe2;
constexpr uint8_t kDevice = 1;
constexpr uint16_t kBuffer = 0;
constexpr DataPlane::Id kCapture = 1;
constexpr size_t kSetBytes = 8;
constexpr int kTimeoutMs = 1000;
constexpr size_t kRingBytes = 1024;
constexpr size_t kPacketBytes = 512;
constexpr int kSmallBufferBytes = 4096;

/** What the client of one link knows: the bytes that it has received, and what it waits for. */
struct Client {
  DataPlane::Id id = 0;
  bool metadata = false;
  Wire wire;

  bool open = true;  // until the link says that it has closed
  bool hasReader = true;
  std::map<uint16_t, size_t> blocks;  // index → size
  std::map<uint16_t, int> asked;      // index → requests that are not answered
  uint64_t toTypeScript = 0;
  uint64_t expectedInTypeScript = 0;

  std::string received;
  size_t parsed = 0;
  bool unreadable = false;
  bool mayFail = false;
  std::optional<uint64_t> nextSet;
  uint32_t epoch = 0;
  bool knowsItsLoss = true;
  uint64_t blocksReceived = 0;
};

/** One seeded life of a data plane with a capture and its clients. */
class Life {
 public:
  explicit Life(unsigned seed) : random_(seed), plane_(seed % 4 != 0) {
    const auto ep0 = plane_.kernel.openEp0();
    ep0_.reset(ep0.fd);
    plane_.run([&](DataPlane& p) { p.watchEp0(ep0_.get(), [](const uapi::FfsEvent&) {}); });
    openCapture();
  }

  ~Life() {
    plane_.run([](DataPlane& p) { p.unwatchEp0(); });
    // In order, or all at once by the data plane's own end.
    if (pick(2) == 0) closeCapture();
    plane_.kernel.holdCompletions(false);
    plane_.end();
    if (enabled_) adc_->disable();
    ep0_.reset();
    iio_.reset();
  }

  void step() {
    switch (pick(20)) {
      case 0:
        if (openClients() < 3 || pick(8) == 0) openLink();
        break;
      case 1:
      case 2:
        pick(4) == 0 ? freeBlock() : createBlock();
        break;
      case 3:
      case 4:
      case 5:
      case 6:
      case 7:
        ask();
        break;
      case 8:
        if (!enabled_) {
          enable();
        } else if (pick(6) == 0) {
          disable();
        }
        break;
      case 9:
      case 10:
      case 11:
        hardware();
        break;
      case 12:
      case 13:
      case 14:
        fetch(anyClient(), 1 + pick(4));
        break;
      case 15:
        plane_.advance(std::chrono::milliseconds(pick(5) == 0 ? kTimeoutMs : 3));
        break;
      case 16:
        if (pick(8) == 0) closeLink();
        break;
      case 17:
        rareEvent();
        break;
      case 18:
        holdOrDeliver();
        break;
      default:
        lose();
    }
    settle();
  }

  /** The hardware runs and everybody reads: whoever waits for something gets it. */
  void expectAnswers() {
    plane_.kernel.holdCompletions(false);
    if (isDisabledBehind_) disable();
    if (!enabled_) enable();
    for (int i = 0; i < 100; i++) {
      hardware(true);
      for (auto& client : clients_) fetch(client.get(), 8);
      plane_.advance(std::chrono::milliseconds(3));
      settle();
    }
    for (const auto& client : clients_) {
      if (!client->open || client->unreadable || !client->hasReader) continue;
      CAPTURE(client->id);
      for (const auto& [index, count] : client->asked) {
        CAPTURE(index);
        CHECK(count == 0);
      }
      CHECK(client->toTypeScript == client->expectedInTypeScript);
      CHECK(client->parsed == client->received.size());
    }
  }

  uint64_t blocksReceived() const {
    uint64_t all = 0;
    for (const auto& client : clients_) all += client->blocksReceived;
    return all;
  }

 private:
  unsigned pick(unsigned count) { return random_() % count; }
  void note(const Client& client, const std::string& what) {
    plane_.kernel.note("client " + std::to_string(client.id) + (client.wire.in ? ", usb: " : ", socket: ") + what);
  }

  void settle() {
    plane_.settle();
    // TypeScript takes the readers of a link that has ended away, some time later.
    for (auto& client : clients_) {
      if (!client->open && client->hasReader && pick(3) == 0) removeReader(*client);
    }
  }

  template <typename Accept>
  Client* anyClient(Accept accept) {
    std::vector<Client*> found;
    for (const auto& client : clients_) {
      if (client->open && accept(*client)) found.push_back(client.get());
    }
    return found.empty() ? nullptr : found[pick(static_cast<unsigned>(found.size()))];
  }
  size_t openClients() const {
    return static_cast<size_t>(std::count_if(clients_.begin(), clients_.end(), [](const auto& c) { return c->open; }));
  }
  Client* anyClient() {
    return anyClient([](const Client&) { return true; });
  }

  // The buffer

  void openCapture() {
    const auto opened = plane_.kernel.openIioBuffer(IioBuffer::Direction::kInput);
    adc_ = opened.file;
    iio_.reset(opened.fd);
    adc_->takesDmabufs = pick(5) != 0;
    lost_ = 0;
    countsWhenOver_ = pick(2) == 0;
    lostFile_.reset(::memfd_create("lost", MFD_CLOEXEC));
    writeLost();
    Capture::Options options;
    options.setBytes = kSetBytes;
    options.byRead = pick(8) == 0;
    options.flows = pick(2) == 0;
    options.policy = pick(2) == 0 ? RingPolicy::kDropNewest : RingPolicy::kDropOldest;
    plane_.kernel.note(std::string("new capture") + (options.flows ? ", flows" : "") + (options.byRead ? ", read" : ""));
    readsDmabufs_ = adc_->takesDmabufs && !options.byRead;
    const unsigned ring = options.flows ? 1 + pick(4) : 0;
    std::vector<int> memories;
    for (unsigned i = 0; i < ring; i++) memories.push_back(plane_.kernel.makeDmabuf(kRingBytes).fd);
    plane_.run([&](DataPlane& p) {
      p.addCapture(kCapture, std::make_unique<Capture>(UniqueFd(plane_.kernel.duplicate(iio_.get())),
                                                       UniqueFd(::dup(lostFile_.get())), options));
      for (const int memory : memories) {
        Capture::BlockPtr added;
        static_cast<void>(p.capture(kCapture)->addBlock(UniqueFd(memory), kRingBytes, added));
      }
    });
  }

  void closeCapture() {
    for (auto& client : clients_) removeReader(*client);
    if (enabled_) disable();
    plane_.run([](DataPlane& p) { p.removeCapture(kCapture); });
    iio_.reset();
  }

  void enable() {
    adc_->enable();
    captured_ = false;
    run([&](Capture& capture) { capture.start({1e6, 0, false}); });
    enabled_ = true;
  }

  void disable() {
    run([](Capture& capture) { capture.stop(); });
    adc_->disable();
    enabled_ = isDisabledBehind_ = false;
  }

  void hardware(bool willingly = false) {
    if (!readsDmabufs_) {
      adc_->makeReady(8 * (1 + pick(100)));
      captured_ = true;
      return;
    }
    if (adc_->queued() > 0) writeLost();
    const unsigned fate = willingly ? 9 : pick(40);
    if (fate == 0) {
      captured_ |= adc_->transferBlock(-EIO);
    } else if (fate == 1 && pick(4) == 0) {
      // Its fence is over before it can be exported, so that nobody can tell it from one that was filled.
      adc_->refusePreparation();
      contentIsKnown_ = lossIsKnown_ = false;
    } else {
      for (unsigned i = 0; i < 1 + fate % 3; i++) captured_ |= adc_->transferBlock();
    }
  }

  /** What is sampled while there is no block is lost; some time passes. */
  void lose() {
    if (!enabled_ || isDisabledBehind_ || !captured_ || !readsDmabufs_ || adc_->queued() > 0) return;
    const uint64_t sets = 1 + pick(1000);
    plane_.kernel.note("lost " + std::to_string(sets));
    adc_->lose(sets);
    lost_ += sets;
    if (!countsWhenOver_) writeLost();
    plane_.advance(std::chrono::microseconds(sets));
  }

  void writeLost() {
    const std::string count = std::to_string(lost_);
    if (::pwrite(lostFile_.get(), count.data(), count.size(), 0) < 0) die("no memory");
  }

  // The clients

  void openLink() {
    clients_.push_back(std::make_unique<Client>());
    Client& client = *clients_.back();
    client.id = static_cast<DataPlane::Id>(clients_.size());
    client.metadata = pick(3) != 0;
    const bool byUsb = pick(3) != 0 && plane_.kernel.usb().bound();
    client.wire = byUsb ? Wire::usb(plane_.kernel, kPacketBytes) : Wire::socketPair(pick(2) == 0 ? kSmallBufferBytes : 0);
    BlockReader::Options options;
    options.device = kDevice;
    options.buffer = kBuffer;
    options.transferOp = kTransferOp;
    options.retryOp = kRetryOp;
    options.timeoutMs = pick(2) == 0 ? kTimeoutMs : 0;
    options.sinkByAio = pick(4) == 0;
    options.metadata = client.metadata;
    plane_.run([&](DataPlane& p) {
      auto link = client.wire.makeLink(p);
      link->setClosedHandler([this, &client](int reason) {
        client.open = false;
        note(client, "closed " + std::to_string(reason));
        if (reason != 0 && !client.mayFail && !linksMayFail_) die("a link of a client that did nothing has failed");
      });
      Link& opened = *link;
      p.addLink(client.id, std::move(link));
      pull(opened, client, Link::Want::kFrame);
      if (opened.closing()) return;
      auto reader = std::make_unique<BlockReader>(*p.capture(kCapture), opened, options);
      reader->setActive(true);
      p.addReader(client.id, std::move(reader));
    });
  }

  /** TypeScript's side: takes the frames that the reader leaves to it, and their payload. */
  void pull(Link& link, Client& client, Link::Want want) {
    link.pull(want, 8, [&link, &client, want, this](int status, const std::vector<uint8_t>& bytes) {
      if (status != 0) return;
      Link::Want next = Link::Want::kFrame;
      if (want == Link::Want::kFrame) {
        if (bytes[2] == kOtherOp) client.toTypeScript++;
        // A request for a block that is gone: its payload comes next.
        if (bytes[2] == kTransferOp) next = Link::Want::kBytes;
      }
      pull(link, client, next);
    });
  }

  void createBlock() {
    Client* client = anyClient();
    if (client == nullptr || !client->hasReader || client->blocks.size() >= 6) return;
    const size_t size = 8 * (1 + pick(300));
    const uint16_t index = nextIndex_++;
    const int memory = pick(12) == 0 ? -1 : plane_.kernel.makeDmabuf(size).fd;
    int status = -1;
    run([&](Capture&) {}, client, [&](BlockReader& reader) {
      BlockPath path{};
      status = reader.createBlock(index, index, UniqueFd(memory), size, path);
      // The first block decides.
      if (status == 0) readsDmabufs_ = path.source == SourceKind::kDmabuf;
    });
    if (status == 0) client->blocks[index] = size;
    note(*client, "creates " + std::to_string(index) + ": " + std::to_string(status));
  }

  void freeBlock() {
    Client* client = anyClient([](const Client& c) { return c.hasReader && !c.blocks.empty(); });
    if (client == nullptr) return;
    const auto block = std::next(client->blocks.begin(), pick(static_cast<unsigned>(client->blocks.size())));
    const uint16_t index = block->first;
    client->blocks.erase(block);
    // What it has asked for and does not want any more is its own loss.
    if (client->asked[index] > 0) client->knowsItsLoss = false;
    note(*client, "frees " + std::to_string(index));
    client->asked.erase(index);
    run([](Capture&) {}, client, [&](BlockReader& reader) { reader.freeBlock(index); });
  }

  void ask() {
    Client* client = anyClient([](const Client& c) { return c.hasReader; });
    if (client == nullptr) return;
    std::string request;
    if (client->blocks.empty() || pick(8) == 0) {
      request = frame(1, kOtherOp, kDevice, 0);
      client->expectedInTypeScript++;
    } else {
      const auto block = std::next(client->blocks.begin(), pick(static_cast<unsigned>(client->blocks.size())));
      const bool again = pick(10) == 0;
      uint64_t bytes = pick(6) == 0 ? pick(3) * 8 : block->second;
      if (pick(20) == 0) bytes = block->second + 8;
      request = frame(1, again ? kRetryOp : kTransferOp, kDevice, block->first << 16 | kBuffer);
      if (!again) request.append(reinterpret_cast<const char*>(&bytes), sizeof bytes);
      client->asked[block->first]++;
      note(*client, (again ? "retries " : "asks for ") + std::to_string(block->first) + ", " + std::to_string(bytes));
    }
    if (client->wire.out) {
      client->wire.out->hostSends(fake::bytes(request));
    } else if (::send(client->wire.socket.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
      // It has hung up, or does not read its answers.
      client->unreadable = true;
    }
  }

  void fetch(Client* client, unsigned pieces) {
    if (client == nullptr) return;
    for (unsigned i = 0; i < pieces; i++) {
      if (client->wire.in) {
        client->wire.in->hostTakes();
        const std::string taken = text(client->wire.in->taken());
        client->received = taken;
      } else if (client->wire.socket) {
        char piece[3000];
        const ssize_t count = ::recv(client->wire.socket.get(), piece, sizeof piece, 0);
        if (count > 0) client->received.append(piece, static_cast<size_t>(count));
      }
      plane_.settle();
    }
    if (!client->unreadable) parse(*client);
  }

  void parse(Client& client) {
    for (;;) {
      const char* data = client.received.data() + client.parsed;
      const size_t left = client.received.size() - client.parsed;
      FrameHeader header;
      if (left < sizeof header) return;
      std::memcpy(&header, data, sizeof header);
      const size_t recordBytes = header.op == kRecordOp ? sizeof(BlockRecord) : 0;
      const size_t samples = header.code > 0 ? static_cast<size_t>(header.code) : 0;
      CAPTURE(client.id);
      CAPTURE(client.parsed);
      REQUIRE((header.op == 0 || (header.op == kRecordOp && client.metadata && samples > 0)));
      REQUIRE(samples <= 8 * 300);
      if (left < sizeof header + recordBytes + samples) return;
      client.parsed += sizeof header + recordBytes + samples;
      const auto asked = client.asked.find(header.clientId);
      note(client, "gets " + std::to_string(header.clientId) + ": " + std::to_string(header.code));
      // Its samples stay with the block until the client retries.
      if (header.code == -ETIMEDOUT) client.knowsItsLoss = false;
      if (asked != client.asked.end()) REQUIRE(asked->second-- > 0);
      if (samples > 0) check(client, data + sizeof header, recordBytes, samples);
    }
  }

  void check(Client& client, const char* answer, size_t recordBytes, size_t samples) {
    std::vector<uint64_t> sets(samples / kSetBytes);
    std::memcpy(sets.data(), answer + recordBytes, sets.size() * kSetBytes);
    client.blocksReceived++;
    for (size_t i = 1; i < sets.size() && contentIsKnown_; i++) REQUIRE(sets[i] == sets[0] + i);
    if (recordBytes == 0) return;
    BlockRecord record;
    std::memcpy(&record, answer, sizeof record);
    note(client, "block " + std::to_string(record.sequence) + ": sets " + std::to_string(sets[0]) + " to " +
                     std::to_string(sets.back()) + ", lost before it " + std::to_string(record.lostSets) + ", flags " +
                     std::to_string(record.flags) + ", epoch " + std::to_string(record.epoch));
    if (client.knowsItsLoss && client.nextSet && client.epoch == record.epoch && lossIsKnown_) {
      REQUIRE(sets[0] == *client.nextSet + record.lostSets);
    }
    client.epoch = record.epoch;
    client.nextSet = sets.back() + 1;
  }

  void closeLink() {
    Client* client = anyClient();
    if (client == nullptr) return;
    if (client->wire.socket && pick(2) == 0) {
      client->mayFail = client->unreadable = true;
      client->wire.socket.reset();
    } else {
      plane_.run([&](DataPlane& p) { p.closeLink(client->id); });
    }
  }

  void removeReader(Client& client) {
    if (!std::exchange(client.hasReader, false)) return;
    note(client, "loses its reader");
    client.blocks.clear();
    client.asked.clear();
    plane_.run([&](DataPlane& p) { p.removeReader(client.id); });
  }

  // What happens once in a while

  void rareEvent() {
    switch (pick(30)) {
      case 0:
        linksMayFail_ = true;
        return plane_.kernel.usb().reset();
      case 1:
        linksMayFail_ = true;
        return plane_.kernel.usb().unbind();
      case 2:
        closeCapture();
        return openCapture();
      case 6:
        if (!enabled_ || !readsDmabufs_) return;
        // What is enqueued after it waits until the buffer is disabled and enabled as it should be.
        adc_->disableBehindItsBack();
        isDisabledBehind_ = true;
        return;
      case 3: {
        Client* client = anyClient([](const Client& c) { return c.hasReader; });
        if (client != nullptr) removeReader(*client);
        return;
      }
      case 4:
      case 5: {
        static constexpr unsigned long kRequests[] = {uapi::kIioDmabufAttach,      uapi::kIioDmabufEnqueue,
                                                      uapi::kFfsDmabufAttach,      uapi::kFfsDmabufTransfer,
                                                      uapi::kDmaBufExportSyncFile, uapi::kSyncIocFileInfo};
        // What such a block captures is lost without a trace.
        lossIsKnown_ = contentIsKnown_ = false;
        linksMayFail_ = true;
        return plane_.kernel.failIoctl(kRequests[pick(6)], ENOMEM, 1 + pick(3));
      }
      default:
        return;
    }
  }

  void holdOrDeliver() {
    if (pick(4) == 0) plane_.kernel.holdCompletions(pick(2) == 0);
    if (plane_.kernel.heldCompletions() > 0) plane_.kernel.deliver(0);
  }

  void run(const std::function<void(Capture&)>& command, Client* client = nullptr,
           const std::function<void(BlockReader&)>& readers = nullptr) {
    plane_.run([&](DataPlane& p) {
      command(*p.capture(kCapture));
      if (client == nullptr) return;
      if (auto* reader = dynamic_cast<BlockReader*>(p.reader(client->id))) readers(*reader);
    });
  }

  std::mt19937 random_;
  // Told of by the links until the data plane ends.
  std::vector<std::unique_ptr<Client>> clients_;
  UniqueFd ep0_;
  UniqueFd iio_;
  UniqueFd lostFile_;
  uint64_t lost_ = 0;
  /** The device counts what it loses without a block when it has the next one, or at once. */
  bool countsWhenOver_ = false;
  std::shared_ptr<IioBuffer> adc_;
  uint16_t nextIndex_ = 0;
  bool enabled_ = false;
  bool isDisabledBehind_ = false;
  bool captured_ = false;
  bool readsDmabufs_ = true;
  bool lossIsKnown_ = true;
  bool contentIsKnown_ = true;
  bool linksMayFail_ = false;
  Plane plane_;
};

constexpr size_t kLossBlockBytes = 1024;
constexpr double kLossHertz = 1e6;

/** Notes the records of what it gets, and holds the blocks until it is told to let go of them. */
class RecordReader : public Reader {
 public:
  explicit RecordReader(Capture& capture) : Reader(capture, nullptr, false) {
    accepts_ = true;
    capture.join(*this);
  }
  void letGo() {
    for (Entry& entry : std::exchange(backlog_, {})) {
      records.push_back(entry.record());
      release(entry);
    }
  }
  void failed(int, const iio_bridge::CaptureBlock*) override { FAIL("no failure was due"); }
  bool wants() const override { return false; }
  iio_bridge::Clock::time_point nextDeadline() override { return iio_bridge::Clock::time_point::max(); }
  void expire(iio_bridge::Clock::time_point) override {}

  std::vector<BlockRecord> records;

 private:
  void serve() override {}
  size_t own() const override { return 0; }
};

/** A capture that flows into so many blocks at 1 MHz, of a device that counts what it has lost. */
class Losses {
 public:
  explicit Losses(unsigned blocks) {
    const auto opened = plane_.kernel.openIioBuffer(IioBuffer::Direction::kInput);
    adc_ = opened.file;
    iio_.reset(opened.fd);
    counter_.reset(::memfd_create("lost", MFD_CLOEXEC));
    lose(0);
    std::vector<int> memories;
    for (unsigned i = 0; i < blocks; i++) memories.push_back(plane_.kernel.makeDmabuf(kLossBlockBytes).fd);
    Capture::Options options;
    options.setBytes = kSetBytes;
    options.flows = true;
    plane_.run([&](DataPlane& p) {
      p.addCapture(kCapture, std::make_unique<Capture>(UniqueFd(plane_.kernel.duplicate(iio_.get())),
                                                       UniqueFd(::dup(counter_.get())), options));
      Capture& capture = *p.capture(kCapture);
      for (const int memory : memories) {
        Capture::BlockPtr added;
        REQUIRE(capture.addBlock(UniqueFd(memory), kLossBlockBytes, added) == 0);
      }
      auto reader = std::make_unique<RecordReader>(capture);
      reader_ = reader.get();
      p.addReader(kCapture, std::move(reader));
    });
    adc_->enable();
    plane_.run([](DataPlane& p) { p.capture(kCapture)->start({kLossHertz, 0, false}); });
  }
  ~Losses() {
    plane_.run([](DataPlane& p) {
      p.capture(kCapture)->stop();
      p.removeCapture(kCapture);
    });
    plane_.end();
    adc_->disable();
    iio_.reset();
  }

  /** A block is filled, which the data plane has yet to see. */
  void fill() { REQUIRE(adc_->transferBlock()); }
  /** The device counts so many lost sets. */
  void lose(uint64_t sets) {
    lost_ += sets;
    const std::string count = std::to_string(lost_);
    if (::ftruncate(counter_.get(), 0) != 0 || ::pwrite(counter_.get(), count.data(), count.size(), 0) < 0) die("no memory");
  }
  void resetCounter() { lost_ = 0; }
  void see() { plane_.settle(); }
  void wait(uint64_t sets) { plane_.advance(std::chrono::microseconds(sets)); }
  void fillAndSee() {
    fill();
    see();
  }
  /** What has been reported of the blocks so far; they are free again. */
  const std::vector<BlockRecord>& records() {
    plane_.run([&](DataPlane&) { reader_->letGo(); });
    return reader_->records;
  }

 private:
  Plane plane_;
  UniqueFd iio_;
  UniqueFd counter_;
  uint64_t lost_ = 0;
  std::shared_ptr<IioBuffer> adc_;
  RecordReader* reader_ = nullptr;
};

}  // namespace

TEST_SUITE("capture") {
  TEST_CASE("a loss that the device counts, and nobody can see, is reported before the block that follows it") {
    Losses losses(4);
    losses.fillAndSee();
    losses.fill();
    // The source is at the third block by now.
    losses.lose(5);
    losses.see();
    losses.fillAndSee();
    const auto records = losses.records();
    REQUIRE(records.size() == 3);
    CHECK(records[1].lostSets == 0);
    CHECK(records[2].lostSets == 5);
    CHECK(records[2].gapNs == 5000);
    CHECK(records[2].flags == iio_bridge::kLossExact);
  }

  TEST_CASE("a loss between blocks is reported behind its gap, whether the device counts it at once or when it is over") {
    for (const bool countsWhenOver : {false, true}) {
      CAPTURE(countsWhenOver);
      Losses losses(1);
      losses.fillAndSee();
      if (!countsWhenOver) losses.lose(1001);
      losses.wait(1000);
      losses.records();
      if (countsWhenOver) losses.lose(1001);
      losses.fillAndSee();
      const auto records = losses.records();
      REQUIRE(records.size() == 2);
      CHECK(records[1].lostSets == 1001);
      CHECK(records[1].gapNs == 1000000);
      CHECK(records[1].flags == iio_bridge::kLossExact);
    }
  }

  TEST_CASE("a device's counter may be reset") {
    Losses losses(1);
    losses.lose(700);
    losses.fillAndSee();
    losses.wait(50);
    losses.records();
    losses.resetCounter();
    losses.lose(50);
    losses.fillAndSee();
    const auto records = losses.records();
    REQUIRE(records.size() == 2);
    CHECK(records[0].lostSets == 700);
    CHECK(records[1].lostSets == 50);
  }

  TEST_CASE("lives through whatever happens in whatever order, and accounts for every sample") {
    const Seeds seeds(60);
    constexpr int kSteps = 300;
    uint64_t blocks = 0;
    for (unsigned seed = seeds.first; seed < seeds.first + seeds.count; seed++) {
      CAPTURE(seed);
      Life life(seed);
      for (int i = 0; i < kSteps; i++) life.step();
      life.expectAnswers();
      blocks += life.blocksReceived();
    }
    // A test of nothing would pass, too.
    CAPTURE(blocks);
    CHECK((seeds.count < 10 || blocks > seeds.count * 5));
  }
}
