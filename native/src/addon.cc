// The face of the data plane towards TypeScript: every method posts a command to the data plane's thread, which answers
// through one callback: onEvent(kind, id, status, data). `kind` is 'done' (id: the token given with the call), 'closed'
// (id: the link) or 'ep0'; `data` is bytes or a list of numbers. src/dataplane/ gives all this types and promises.

#include <fcntl.h>
#include <napi.h>
#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "block_reader.h"
#include "capture.h"
#include "data_plane.h"
#include "locked_memory.h"
#include "sample_reader.h"
#include "socket_link.h"
#include "tcp_listener.h"
#include "uapi.h"
#include "usb_link.h"

namespace iio_bridge {
namespace {

using Id = DataPlane::Id;

struct Event {
  const char* kind;
  Id id;
  int status;
  std::vector<uint8_t> bytes;
  std::vector<double> numbers;
};

void callEvent(Napi::Env env, Napi::Function callback, std::nullptr_t*, Event* raw) {
  const std::unique_ptr<Event> event(raw);
  if (env == nullptr || callback.IsEmpty()) return;
  Napi::Value data = env.Undefined();
  if (!event->numbers.empty()) {
    auto list = Napi::Array::New(env, event->numbers.size());
    for (uint32_t i = 0; i < event->numbers.size(); i++) list.Set(i, event->numbers[i]);
    data = list;
  } else if (!event->bytes.empty()) {
    data = Napi::Buffer<uint8_t>::Copy(env, event->bytes.data(), event->bytes.size());
  }
  callback.Call({Napi::String::New(env, event->kind), Napi::Number::New(env, event->id),
                 Napi::Number::New(env, event->status), data});
}

using EventQueue = Napi::TypedThreadSafeFunction<std::nullptr_t, Event, callEvent>;

class DataPlaneWrap : public Napi::ObjectWrap<DataPlaneWrap> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "DataPlane",
                       {InstanceMethod<&DataPlaneWrap::watchEp0>("watchEp0"),
                        InstanceMethod<&DataPlaneWrap::resumeEp0>("resumeEp0"),
                        InstanceMethod<&DataPlaneWrap::unwatchEp0>("unwatchEp0"),
                        InstanceMethod<&DataPlaneWrap::openUsbLink>("openUsbLink"),
                        InstanceMethod<&DataPlaneWrap::openSocketLink>("openSocketLink"),
                        InstanceMethod<&DataPlaneWrap::listenTcp>("listenTcp"),
                        InstanceMethod<&DataPlaneWrap::accept>("accept"),
                        InstanceMethod<&DataPlaneWrap::closeListener>("closeListener"),
                        InstanceMethod<&DataPlaneWrap::drain>("drain"),
                        InstanceMethod<&DataPlaneWrap::pull>("pull"),
                        InstanceMethod<&DataPlaneWrap::send>("send"),
                        InstanceMethod<&DataPlaneWrap::closeLink>("closeLink"),
                        InstanceMethod<&DataPlaneWrap::createCapture>("createCapture"),
                        InstanceMethod<&DataPlaneWrap::removeCapture>("removeCapture"),
                        InstanceMethod<&DataPlaneWrap::addCaptureBlock>("addCaptureBlock"),
                        InstanceMethod<&DataPlaneWrap::startCapture>("startCapture"),
                        InstanceMethod<&DataPlaneWrap::stopCapture>("stopCapture"),
                        InstanceMethod<&DataPlaneWrap::captureStatistics>("captureStatistics"),
                        InstanceMethod<&DataPlaneWrap::createBlockReader>("createBlockReader"),
                        InstanceMethod<&DataPlaneWrap::createSampleReader>("createSampleReader"),
                        InstanceMethod<&DataPlaneWrap::removeReader>("removeReader"),
                        InstanceMethod<&DataPlaneWrap::readerStatistics>("readerStatistics"),
                        InstanceMethod<&DataPlaneWrap::createBlock>("createBlock"),
                        InstanceMethod<&DataPlaneWrap::freeBlock>("freeBlock"),
                        InstanceMethod<&DataPlaneWrap::setActive>("setActive"),
                        InstanceMethod<&DataPlaneWrap::setTimeout>("setTimeout"),
                        InstanceMethod<&DataPlaneWrap::createPlayback>("createPlayback"),
                        InstanceMethod<&DataPlaneWrap::connectPlayback>("connectPlayback"),
                        InstanceMethod<&DataPlaneWrap::removePlayback>("removePlayback"),
                        InstanceMethod<&DataPlaneWrap::createOutBlock>("createOutBlock"),
                        InstanceMethod<&DataPlaneWrap::freeOutBlock>("freeOutBlock"),
                        InstanceMethod<&DataPlaneWrap::startPlayback>("startPlayback"),
                        InstanceMethod<&DataPlaneWrap::stopPlayback>("stopPlayback"),
                        InstanceMethod<&DataPlaneWrap::settlePlayback>("settlePlayback"),
                        InstanceMethod<&DataPlaneWrap::setPlaybackTimeout>("setPlaybackTimeout"),
                        InstanceMethod<&DataPlaneWrap::writePlayback>("writePlayback"),
                        InstanceMethod<&DataPlaneWrap::drainPlayback>("drainPlayback"),
                        InstanceMethod<&DataPlaneWrap::receiveBlock>("receiveBlock"),
                        InstanceMethod<&DataPlaneWrap::repeatBlock>("repeatBlock"),
                        InstanceMethod<&DataPlaneWrap::playbackState>("playbackState"),
                        InstanceMethod<&DataPlaneWrap::takeSamples>("takeSamples"),
                        InstanceMethod<&DataPlaneWrap::sendSamples>("sendSamples"),
                        InstanceMethod<&DataPlaneWrap::openSampleIo>("openSampleIo"),
                        InstanceMethod<&DataPlaneWrap::readSamples>("readSamples"),
                        InstanceMethod<&DataPlaneWrap::writeSamples>("writeSamples"),
                        InstanceMethod<&DataPlaneWrap::closeSampleIo>("closeSampleIo"),
                        InstanceMethod<&DataPlaneWrap::setRealtime>("setRealtime"),
                        InstanceMethod<&DataPlaneWrap::setCpu>("setCpu"),
                        InstanceMethod<&DataPlaneWrap::lockMemory>("lockMemory"),
                        InstanceMethod<&DataPlaneWrap::shutdown>("shutdown")});
  }

  explicit DataPlaneWrap(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DataPlaneWrap>(info) {
    plane_ = std::make_unique<DataPlane>();
    if (plane_->error() != 0) {
      const int error = plane_->error();
      plane_.reset();
      Napi::Error::New(info.Env(), std::string("data plane: ") + std::strerror(-error)).ThrowAsJavaScriptException();
      return;
    }
    events_ = EventQueue::New(info.Env(), info[0].As<Napi::Function>(), "data-plane", 0, 1);
    open_ = true;
    napi_add_env_cleanup_hook(info.Env(), cleanUp, this);
  }

  ~DataPlaneWrap() override { end(); }

 private:
  static void cleanUp(void* self) { static_cast<DataPlaneWrap*>(self)->end(); }

  static Id id(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }
  static int number(const Napi::Value& value) { return value.As<Napi::Number>().Int32Value(); }

  /** Runs `command` on the data plane's thread, as long as there is one. */
  void post(std::function<void()> command) {
    if (plane_) plane_->post(std::move(command));
  }

  void emit(Event event) {
    auto* queued = new Event(std::move(event));
    if (events_.NonBlockingCall(queued) != napi_ok) delete queued;
  }
  void done(Id token, int status) { emit({"done", token, status, {}, {}}); }

  void watchEp0(const Napi::CallbackInfo& info) {
    post([this, fd = number(info[0])] {
      plane_->watchEp0(fd, [this](const uapi::FfsEvent& event) {
        const auto* bytes = reinterpret_cast<const uint8_t*>(&event);
        emit({"ep0", 0, 0, {bytes, bytes + sizeof event}, {}});
      });
    });
  }

  void resumeEp0(const Napi::CallbackInfo&) {
    post([this] { plane_->resumeEp0(); });
  }

  void unwatchEp0(const Napi::CallbackInfo& info) {
    post([this, token = id(info[0])] {
      plane_->unwatchEp0();
      done(token, 0);
    });
  }

  /** (link, inFd, outFd, packetBytes): takes both descriptors. */
  void openUsbLink(const Napi::CallbackInfo& info) {
    post([this, link = id(info[0]), in = number(info[1]), out = number(info[2]), packet = number(info[3])] {
      addLink(link, std::make_unique<UsbLink>(plane_->aio(), plane_->bus(), UniqueFd(in), UniqueFd(out),
                                              static_cast<size_t>(packet)));
    });
  }

  /** (link, fd): takes the descriptor, a connected non-blocking stream socket. */
  void openSocketLink(const Napi::CallbackInfo& info) {
    post([this, link = id(info[0]), fd = number(info[1])] {
      addLink(link, std::make_unique<SocketLink>(UniqueFd(fd)));
    });
  }

  /** (listener, address, port): returns the port or a negative errno. */
  Napi::Value listenTcp(const Napi::CallbackInfo& info) {
    UniqueFd socket;
    const int error = TcpListener::open(info[1].As<Napi::String>(), static_cast<uint16_t>(number(info[2])), socket);
    if (error != 0) return Napi::Number::New(info.Env(), error);
    const uint16_t port = TcpListener::portOf(socket);
    auto listener = std::make_shared<UniqueFd>(std::move(socket));
    post([this, id = id(info[0]), listener] {
      plane_->addListener(id, std::make_unique<TcpListener>(std::move(*listener)));
    });
    return Napi::Number::New(info.Env(), port);
  }

  /** (listener, link, token): done with the peer's address once its connection is `link`. */
  void accept(const Napi::CallbackInfo& info) {
    post([this, listener = id(info[0]), link = id(info[1]), token = id(info[2])] {
      TcpListener* from = plane_->listener(listener);
      if (from == nullptr) return done(token, -EBADF);
      from->accept([this, link, token](int status, UniqueFd socket, const std::string& peer) {
        if (status == 0) addLink(link, std::make_unique<SocketLink>(std::move(socket)));
        emit({"done", token, status, {peer.begin(), peer.end()}, {}});
      });
    });
  }

  void closeListener(const Napi::CallbackInfo& info) {
    post([this, listener = id(info[0]), token = id(info[1])] {
      plane_->removeListener(listener);
      done(token, 0);
    });
  }

  /** (link, limit, token) */
  void drain(const Napi::CallbackInfo& info) {
    const auto limit = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    post([this, link = id(info[0]), limit, token = id(info[2])] {
      Link* of = plane_->link(link);
      if (of == nullptr) return done(token, -ESHUTDOWN);
      of->drain(limit, [this, token](int status) { done(token, status); });
    });
  }

  void addLink(Id link, std::unique_ptr<Link> opened) {
    opened->setClosedHandler([this, link](int reason) { emit({"closed", link, reason, {}, {}}); });
    plane_->addLink(link, std::move(opened));
  }

  /** (link, want, limit, token) */
  void pull(const Napi::CallbackInfo& info) {
    const auto want = static_cast<Link::Want>(number(info[1]));
    const auto limit = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
    post([this, link = id(info[0]), want, limit, token = id(info[3])] {
      Link* from = plane_->link(link);
      if (from == nullptr) return done(token, -ESHUTDOWN);
      from->pull(want, limit, [this, token](int status, std::vector<uint8_t> bytes) {
        emit({"done", token, status, std::move(bytes), {}});
      });
    });
  }

  /** (link, transfers): each a transfer of its own, with nothing in between. */
  void send(const Napi::CallbackInfo& info) {
    const auto list = info[1].As<Napi::Array>();
    std::vector<std::vector<uint8_t>> transfers;
    for (uint32_t i = 0; i < list.Length(); i++) {
      const auto bytes = list.Get(i).As<Napi::Uint8Array>();
      transfers.emplace_back(bytes.Data(), bytes.Data() + bytes.ByteLength());
    }
    post([this, link = id(info[0]), transfers = std::move(transfers)]() mutable {
      Link* to = plane_->link(link);
      if (to == nullptr) return;
      for (auto& transfer : transfers) to->send(std::move(transfer));
    });
  }

  void closeLink(const Napi::CallbackInfo& info) {
    post([this, link = id(info[0])] { plane_->closeLink(link); });
  }

  static size_t size(const Napi::Value& value) { return static_cast<size_t>(value.As<Napi::Number>().Int64Value()); }
  static double real(const Napi::Value& value) { return value.As<Napi::Number>().DoubleValue(); }

  static std::vector<double> numbersOf(const BlockPath& path) {
    return {static_cast<double>(path.source), static_cast<double>(path.sink), static_cast<double>(path.sourceErrno),
            static_cast<double>(path.sinkErrno)};
  }

  /** (capture, iioFd, counterFd or -1, options, token): keeps a duplicate of the first descriptor, takes the second. */
  void createCapture(const Napi::CallbackInfo& info) {
    const int duplicate = ::fcntl(number(info[1]), F_DUPFD_CLOEXEC, 0);
    const int error = duplicate < 0 ? errno : 0;
    auto counter = std::make_shared<UniqueFd>(number(info[2]));
    if (error != 0) return done(id(info[4]), -error);
    const auto given = info[3].As<Napi::Object>();
    Capture::Options options;
    options.byRead = given.Get("byRead").ToBoolean();
    options.setBytes = size(given.Get("setBytes"));
    options.timestampOffset = number(given.Get("timestampOffset"));
    options.flows = given.Get("flows").ToBoolean();
    options.onDemand = given.Get("onDemand").ToBoolean();
    options.policy = static_cast<RingPolicy>(number(given.Get("policy")));
    post([this, capture = id(info[0]), duplicate, counter, options, token = id(info[4])] {
      plane_->addCapture(capture, std::make_unique<Capture>(UniqueFd(duplicate), std::move(*counter), options));
      done(token, 0);
    });
  }

  void removeCapture(const Napi::CallbackInfo& info) {
    post([this, capture = id(info[0]), token = id(info[1])] {
      plane_->removeCapture(capture);
      done(token, 0);
    });
  }

  /** (capture, dmabufFd or -1, size, token): takes the descriptor. */
  void addCaptureBlock(const Napi::CallbackInfo& info) {
    post([this, capture = id(info[0]), fd = number(info[1]), bytes = size(info[2]), token = id(info[3])] {
      UniqueFd dmabuf(fd);
      Capture* to = plane_->capture(capture);
      if (to == nullptr) return done(token, -EBADF);
      std::shared_ptr<CaptureBlock> added;
      done(token, to->addBlock(std::move(dmabuf), bytes, added));
    });
  }

  /** (capture, samplingHz, fifoSets, isLossless, token) */
  void startCapture(const Napi::CallbackInfo& info) {
    Capture::Run run;
    run.samplingHz = real(info[1]);
    run.fifoSets = real(info[2]);
    run.isLossless = info[3].ToBoolean();
    post([this, capture = id(info[0]), run, token = id(info[4])] {
      Capture* of = plane_->capture(capture);
      if (of == nullptr) return done(token, -EBADF);
      of->start(run);
      done(token, 0);
    });
  }

  void stopCapture(const Napi::CallbackInfo& info) {
    post([this, capture = id(info[0]), token = id(info[1])] {
      Capture* of = plane_->capture(capture);
      if (of == nullptr) return done(token, -EBADF);
      of->stop();
      done(token, 0);
    });
  }

  /** (capture, token): done with the members of CaptureStatistics in order, blocks that wait, and blocks in all. */
  void captureStatistics(const Napi::CallbackInfo& info) {
    post([this, capture = id(info[0]), token = id(info[1])] {
      const Capture* of = plane_->capture(capture);
      if (of == nullptr) return done(token, -EBADF);
      const CaptureStatistics now = of->statistics();
      emit({"done",
            token,
            0,
            {},
            {static_cast<double>(now.blocks), static_cast<double>(now.bytes), static_cast<double>(now.sourceErrors),
             static_cast<double>(now.overruns), static_cast<double>(now.gapNs), static_cast<double>(now.lostSets),
             static_cast<double>(of->waiting()), static_cast<double>(of->blockCount())}});
    });
  }

  /** (reader, capture, link, options, token) */
  void createBlockReader(const Napi::CallbackInfo& info) {
    const auto given = info[3].As<Napi::Object>();
    BlockReader::Options options;
    options.device = static_cast<uint8_t>(number(given.Get("device")));
    options.buffer = static_cast<uint16_t>(number(given.Get("buffer")));
    options.transferOp = static_cast<uint8_t>(number(given.Get("transferOp")));
    options.retryOp = static_cast<uint8_t>(number(given.Get("retryOp")));
    options.timeoutMs = number(given.Get("timeoutMs"));
    options.sinkByAio = given.Get("sinkByAio").ToBoolean();
    options.metadata = given.Get("metadata").ToBoolean();
    post([this, reader = id(info[0]), capture = id(info[1]), link = id(info[2]), options, token = id(info[4])] {
      Capture* of = plane_->capture(capture);
      Link* to = plane_->link(link);
      if (of == nullptr) return done(token, -EBADF);
      if (to == nullptr || to->closing()) return done(token, -ESHUTDOWN);
      plane_->addReader(reader, std::make_unique<BlockReader>(*of, *to, options));
      done(token, 0);
    });
  }

  /** (reader, capture, link or 0, sinkByAio, own blocks, token): done with a BlockPath. */
  void createSampleReader(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), capture = id(info[1]), link = id(info[2]), byAio = info[3].ToBoolean().Value(),
          own = size(info[4]), token = id(info[5])] {
      Capture* of = plane_->capture(capture);
      Link* to = plane_->link(link);
      if (of == nullptr || of->blockCount() == 0) return done(token, -EBADF);
      if (link != 0 && (to == nullptr || to->closing())) return done(token, -ESHUTDOWN);
      auto created = std::make_unique<SampleReader>(*of, to, byAio, own);
      const BlockPath path = created->path();
      plane_->addReader(reader, std::move(created));
      emit({"done", token, 0, {}, numbersOf(path)});
    });
  }

  void removeReader(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), token = id(info[1])] {
      plane_->removeReader(reader);
      done(token, 0);
    });
  }

  /** (reader, token): done with the members of ReaderStatistics in order. */
  void readerStatistics(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), token = id(info[1])] {
      const Reader* of = plane_->reader(reader);
      if (of == nullptr) return done(token, -EBADF);
      const ReaderStatistics now = of->statistics();
      emit({"done",
            token,
            0,
            {},
            {static_cast<double>(now.blocks), static_cast<double>(now.bytes), static_cast<double>(now.timeouts),
             static_cast<double>(now.droppedBlocks)}});
    });
  }

  BlockReader* blockReader(Id reader) const { return dynamic_cast<BlockReader*>(plane_->reader(reader)); }
  SampleReader* sampleReader(Id reader) const { return dynamic_cast<SampleReader*>(plane_->reader(reader)); }

  /** (reader, index, clientId, dmabufFd or -1, size, token): takes the descriptor; done with a BlockPath. */
  void createBlock(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), index = number(info[1]), client = number(info[2]), fd = number(info[3]),
          bytes = size(info[4]), token = id(info[5])] {
      UniqueFd dmabuf(fd);
      BlockReader* to = blockReader(reader);
      if (to == nullptr) return done(token, -EBADF);
      BlockPath path{};
      const int status = to->createBlock(static_cast<uint16_t>(index), static_cast<uint16_t>(client),
                                         std::move(dmabuf), bytes, path);
      emit({"done", token, status, {}, numbersOf(path)});
    });
  }

  void freeBlock(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), index = number(info[1]), token = id(info[2])] {
      BlockReader* from = blockReader(reader);
      done(token, from == nullptr ? -EBADF : from->freeBlock(static_cast<uint16_t>(index)));
    });
  }

  /** (reader, active, token) */
  void setActive(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), active = info[1].ToBoolean().Value(), token = id(info[2])] {
      BlockReader* of = blockReader(reader);
      if (of == nullptr) return done(token, -EBADF);
      of->setActive(active);
      done(token, 0);
    });
  }

  void setTimeout(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), ms = number(info[1])] {
      if (BlockReader* of = blockReader(reader)) of->setTimeout(ms);
    });
  }

  /** (reader, most, timeoutMs, token): done with the bytes. */
  void takeSamples(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), most = size(info[1]), timeoutMs = number(info[2]), token = id(info[3])] {
      SampleReader* from = sampleReader(reader);
      if (from == nullptr) return done(token, -EBADF);
      from->take(most, timeoutMs, [this, token](int status, size_t, std::vector<uint8_t> bytes) {
        emit({"done", token, status, std::move(bytes), {}});
      });
    });
  }

  /** (reader, most, line, timeoutMs, token): done with how many bytes are on their way. */
  void sendSamples(const Napi::CallbackInfo& info) {
    post([this, reader = id(info[0]), most = size(info[1]), line = info[2].As<Napi::String>().Utf8Value(),
          timeoutMs = number(info[3]), token = id(info[4])] {
      SampleReader* from = sampleReader(reader);
      if (from == nullptr) return done(token, -EBADF);
      from->send(most, line, timeoutMs, [this, token](int status, size_t sent, const std::vector<uint8_t>&) {
        emit({"done", token, status, {}, {static_cast<double>(sent)}});
      });
    });
  }

  /** (playback, iioFd, underflow counter or -1, options, token): keeps a duplicate of the first descriptor, takes the second. */
  void createPlayback(const Napi::CallbackInfo& info) {
    const auto counter = std::make_shared<UniqueFd>(number(info[2]));
    const int duplicate = ::fcntl(number(info[1]), F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) return done(id(info[4]), -errno);
    const auto given = info[3].As<Napi::Object>();
    const auto size = [&given](const char* name) {
      return static_cast<size_t>(given.Get(name).As<Napi::Number>().Int64Value());
    };
    Playback::Options options;
    options.device = static_cast<uint8_t>(number(given.Get("device")));
    options.buffer = static_cast<uint16_t>(number(given.Get("buffer")));
    options.transferOp = static_cast<uint8_t>(number(given.Get("transferOp")));
    options.retryOp = static_cast<uint8_t>(number(given.Get("retryOp")));
    options.timeoutMs = number(given.Get("timeoutMs"));
    options.sampleBytes = size("sampleBytes");
    options.maxPayloadBytes = size("maxPayloadBytes");
    options.sinkByWrite = given.Get("sinkByWrite").ToBoolean();
    options.sourceByCopy = given.Get("sourceByCopy").ToBoolean();
    options.records = given.Get("records").ToBoolean();
    post([this, playback = id(info[0]), fd = duplicate, counter, options, token = id(info[4])] {
      plane_->addPlayback(playback, std::make_unique<Playback>(UniqueFd(fd), std::move(*counter), options));
      done(token, 0);
    });
  }

  /** (playback, link, token) */
  void connectPlayback(const Napi::CallbackInfo& info) {
    withPlayback(info[0], info[2], [this, link = id(info[1])](Playback& playback, Id token) {
      Link* to = plane_->link(link);
      if (to == nullptr || to->closing()) return done(token, -ESHUTDOWN);
      playback.connect(*to);
      done(token, 0);
    });
  }

  /** (playback, token) */
  void removePlayback(const Napi::CallbackInfo& info) {
    post([this, playback = id(info[0]), token = id(info[1])] {
      plane_->removePlayback(playback);
      done(token, 0);
    });
  }

  /** (playback, index, clientId, dmabufFd or -1, size, token): takes the descriptor. */
  void createOutBlock(const Napi::CallbackInfo& info) {
    const auto size = static_cast<size_t>(info[4].As<Napi::Number>().Int64Value());
    withPlayback(info[0], info[5],
                 [this, index = number(info[1]), client = number(info[2]),
                  dmabuf = std::make_shared<UniqueFd>(number(info[3])), size](Playback& playback, Id token) {
                   done(token, playback.createBlock(static_cast<uint16_t>(index), static_cast<uint16_t>(client),
                                                    std::move(*dmabuf), size));
                 });
  }

  void freeOutBlock(const Napi::CallbackInfo& info) {
    withPlayback(info[0], info[2], [this, index = number(info[1])](Playback& playback, Id token) {
      done(token, playback.freeBlock(static_cast<uint16_t>(index)));
    });
  }

  /** (playback, sample sets per second or 0, token) */
  void startPlayback(const Napi::CallbackInfo& info) {
    withPlayback(info[0], info[2],
                 [this, rate = info[1].As<Napi::Number>().DoubleValue()](Playback& playback, Id token) {
                   playback.start(rate);
                   done(token, 0);
                 });
  }

  void stopPlayback(const Napi::CallbackInfo& info) {
    withPlayback(info[0], info[1], [this](Playback& playback, Id token) {
      playback.stop();
      done(token, 0);
    });
  }

  void settlePlayback(const Napi::CallbackInfo& info) {
    withPlayback(info[0], info[1], [this](Playback& playback, Id token) {
      playback.settle();
      done(token, 0);
    });
  }

  void setPlaybackTimeout(const Napi::CallbackInfo& info) {
    post([this, playback = id(info[0]), ms = number(info[1])] {
      if (Playback* of = plane_->playback(playback)) of->setTimeout(ms);
    });
  }

  /** (playback, bytes, timeoutMs, token): done with 0 or a negative errno, and the number of bytes that were taken. */
  void writePlayback(const Napi::CallbackInfo& info) {
    const auto bytes = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    withPlayback(info[0], info[3], [this, bytes, timeoutMs = number(info[2])](Playback& playback, Id token) {
      playback.write(bytes, timeoutMs, [this, token](int status, size_t taken) {
        emit({"done", token, 0, {}, {static_cast<double>(status), static_cast<double>(taken)}});
      });
    });
  }

  /** (playback, timeoutMs, token) */
  void drainPlayback(const Napi::CallbackInfo& info) {
    withPlayback(info[0], info[2], [this, timeoutMs = number(info[1])](Playback& playback, Id token) {
      playback.drain(timeoutMs, [this, token](int status) { done(token, status); });
    });
  }

  /** (playback, index, bytes, token) */
  void receiveBlock(const Napi::CallbackInfo& info) {
    const auto bytes = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
    withPlayback(info[0], info[3], [this, index = number(info[1]), bytes](Playback& playback, Id token) {
      playback.receive(static_cast<uint16_t>(index), bytes, [this, token](int status) { done(token, status); });
    });
  }

  /** (playback, index, spares, size, token): takes the descriptors. */
  void repeatBlock(const Napi::CallbackInfo& info) {
    const auto list = info[2].As<Napi::Array>();
    const auto spares = std::make_shared<std::vector<UniqueFd>>();
    for (uint32_t i = 0; i < list.Length(); i++) spares->emplace_back(number(list.Get(i)));
    const auto size = static_cast<size_t>(info[3].As<Napi::Number>().Int64Value());
    withPlayback(info[0], info[4], [this, index = number(info[1]), spares, size](Playback& playback, Id token) {
      done(token, playback.repeat(static_cast<uint16_t>(index), std::move(*spares), size));
    });
  }

  /** (playback, token): done with the members of PlayPath and of PlayStatistics in order. */
  void playbackState(const Napi::CallbackInfo& info) {
    withPlayback(info[0], info[1], [this](Playback& playback, Id token) {
      const PlayPath path = playback.path();
      const PlayStatistics& now = playback.statistics();
      emit({"done",
            token,
            0,
            {},
            {static_cast<double>(path.source), static_cast<double>(path.sink), static_cast<double>(path.sourceErrno),
             static_cast<double>(path.sinkErrno), static_cast<double>(now.blocks), static_cast<double>(now.bytes),
             static_cast<double>(now.sinkErrors), static_cast<double>(now.timeouts),
             static_cast<double>(now.underruns), static_cast<double>(now.underrunNs),
             static_cast<double>(now.unplayedSets)}});
    });
  }

  /** Runs `command` with the playback and the token, or answers -EBADF. */
  void withPlayback(const Napi::Value& playback, const Napi::Value& token,
                    std::function<void(Playback&, Id)> command) {
    post([this, playback = id(playback), token = id(token), command = std::move(command)] {
      Playback* of = plane_->playback(playback);
      if (of == nullptr) return done(token, -EBADF);
      command(*of, token);
    });
  }

  /** (io, fd): keeps a duplicate of the descriptor; returns 0 or a negative errno, -EINVAL for a blocking one. */
  Napi::Value openSampleIo(const Napi::CallbackInfo& info) {
    const int flags = ::fcntl(number(info[1]), F_GETFL);
    const int duplicate = ::fcntl(number(info[1]), F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) return Napi::Number::New(info.Env(), -errno);
    if ((flags & O_NONBLOCK) == 0) {
      UniqueFd{duplicate};
      return Napi::Number::New(info.Env(), -EINVAL);
    }
    post([this, io = id(info[0]), duplicate] {
      plane_->addSampleIo(io, std::make_unique<SampleIo>(UniqueFd(duplicate)));
    });
    return Napi::Number::New(info.Env(), 0);
  }

  /** (io, least, most, timeoutMs, token): done with the bytes. */
  void readSamples(const Napi::CallbackInfo& info) {
    const auto least = static_cast<size_t>(info[1].As<Napi::Number>().Int64Value());
    const auto most = static_cast<size_t>(info[2].As<Napi::Number>().Int64Value());
    post([this, io = id(info[0]), least, most, timeoutMs = number(info[3]), token = id(info[4])] {
      SampleIo* from = plane_->sampleIo(io);
      if (from == nullptr) return done(token, -EBADF);
      from->read(least, most, timeoutMs, [this, token](int status, std::vector<uint8_t> bytes) {
        emit({"done", token, status, std::move(bytes), {}});
      });
    });
  }

  /** (io, bytes, timeoutMs, token) */
  void writeSamples(const Napi::CallbackInfo& info) {
    const auto given = info[1].As<Napi::Uint8Array>();
    std::vector<uint8_t> bytes(given.Data(), given.Data() + given.ByteLength());
    post([this, io = id(info[0]), bytes = std::move(bytes), timeoutMs = number(info[2]),
                  token = id(info[3])]() mutable {
      SampleIo* to = plane_->sampleIo(io);
      if (to == nullptr) return done(token, -EBADF);
      to->write(std::move(bytes), timeoutMs, [this, token](int status, const std::vector<uint8_t>&) {
        done(token, status);
      });
    });
  }

  void closeSampleIo(const Napi::CallbackInfo& info) {
    post([this, io = id(info[0])] { plane_->removeSampleIo(io); });
  }

  /** (priority, token): SCHED_FIFO for the data plane's thread. */
  void setRealtime(const Napi::CallbackInfo& info) {
    post([this, priority = number(info[0]), token = id(info[1])] {
      sched_param parameters{};
      parameters.sched_priority = priority;
      done(token, -pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameters));
    });
  }

  /** (cpu, token): the one processor that the data plane's thread runs on. */
  void setCpu(const Napi::CallbackInfo& info) {
    post([this, cpu = size(info[0]), token = id(info[1])] {
      if (cpu >= CPU_SETSIZE) return done(token, -EINVAL);
      cpu_set_t cpus;
      CPU_ZERO(&cpus);
      CPU_SET(cpu, &cpus);
      done(token, -pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus));
    });
  }

  /** (token): keeps what the data plane's thread runs on from being paged out. */
  void lockMemory(const Napi::CallbackInfo& info) {
    post([this, token = id(info[0])] { done(token, iio_bridge::lockMemory()); });
  }

  void shutdown(const Napi::CallbackInfo&) { end(); }

  void end() {
    if (!open_) return;
    open_ = false;
    napi_remove_env_cleanup_hook(Env(), cleanUp, this);
    const bool gaveAllBack = plane_->shutdown();
    events_.Release();
    // Not left to the garbage collector: the contexts of asynchronous I/O are few in a system.
    if (gaveAllBack) plane_.reset();
  }

  std::unique_ptr<DataPlane> plane_;
  EventQueue events_;
  bool open_ = false;
};

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("DataPlane", DataPlaneWrap::define(env));
  return exports;
}

}  // namespace
}  // namespace iio_bridge

using iio_bridge::initialise;
NODE_API_MODULE(dataplane, initialise)
