#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "aio.h"
#include "bus.h"
#include "capture.h"
#include "link.h"
#include "playback.h"
#include "poller.h"
#include "reader.h"
#include "sample_io.h"
#include "tcp_listener.h"
#include "uapi.h"

namespace iio_bridge {

/**
 * The one thread through which all samples go, and everything that it owns: the links, the captures and their readers,
 * the descriptors that TypeScript reads and writes samples on, and the AIO context.
 *
 * Other threads reach it through post() only; it speaks to TypeScript through the callbacks that it is given. It never
 * blocks but in its one poll(), so no client can hold up another.
 */
class DataPlane : private PollClient {
 public:
  using Id = uint32_t;
  using Ep0Handler = std::function<void(const uapi::FfsEvent&)>;

  DataPlane();
  ~DataPlane();

  /** 0, or a negative errno when the kernel refused what the thread needs. */
  int error() const;
  /** Runs `command` on the data plane's thread. */
  void post(std::function<void()> command);
  /** Ends everything and joins the thread. Whether the kernel gave back all that it had been given. */
  bool shutdown();

  // To be called on the data plane's thread.

  /** Reads ep0's events; `fd` stays the caller's. After a SETUP it is left alone until resumeEp0(). */
  void watchEp0(int fd, Ep0Handler handler);
  void resumeEp0() { bus_.setBusy(false); }
  const Bus& bus() const { return bus_; }
  /** Forgets ep0, so that its owner may close it. */
  void unwatchEp0();

  void addLink(Id id, std::unique_ptr<Link> link);
  Link* link(Id id) const;
  void closeLink(Id id);

  void addCapture(Id id, std::unique_ptr<Capture> capture) { captures_[id] = std::move(capture); }
  Capture* capture(Id id) const;
  /** With the readers that it still has. */
  void removeCapture(Id id);

  void addReader(Id id, std::unique_ptr<Reader> reader) { readers_[id] = std::move(reader); }
  Reader* reader(Id id) const;
  void removeReader(Id id) { readers_.erase(id); }

  void addPlayback(Id id, std::unique_ptr<Playback> playback) { playbacks_[id] = std::move(playback); }
  Playback* playback(Id id) const;
  void removePlayback(Id id) { playbacks_.erase(id); }

  void addSampleIo(Id id, std::unique_ptr<SampleIo> io) { sampleIos_[id] = std::move(io); }
  SampleIo* sampleIo(Id id) const;
  void removeSampleIo(Id id) { sampleIos_.erase(id); }

  void addListener(Id id, std::unique_ptr<TcpListener> listener) { listeners_[id] = std::move(listener); }
  TcpListener* listener(Id id) const;
  void removeListener(Id id) { listeners_.erase(id); }

  Aio& aio() { return aio_; }

 private:
  void run();
  void runCommands();
  void readEp0();
  void sweep();
  void expire();
  int pollTimeout() const;
  void onReady(int fd) override;

  Aio aio_;
  UniqueFd wake_;
  Poller poller_;
  std::mutex mutex_;
  std::vector<std::function<void()>> commands_;  // guarded by mutex_
  bool stopping_ = false;                        // guarded by mutex_
  bool stopRequested_ = false;
  Bus bus_{aio_};
  bool commandsWaiting_ = false;
  Ep0Handler ep0Handler_;
  std::map<Id, std::unique_ptr<Link>> links_;
  std::map<Id, std::unique_ptr<Playback>> playbacks_;
  std::map<Id, std::unique_ptr<Capture>> captures_;
  std::map<Id, std::unique_ptr<Reader>> readers_;
  std::map<Id, std::unique_ptr<SampleIo>> sampleIos_;
  std::map<Id, std::unique_ptr<TcpListener>> listeners_;
  std::thread thread_;
};

}  // namespace iio_bridge
