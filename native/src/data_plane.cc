#include "data_plane.h"

#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>

#include "uapi.h"

namespace iio_bridge {
namespace {

// How long a cancelled request may take to come back before the process ends without it.
constexpr auto kShutdownPatience = std::chrono::milliseconds(500);

}  // namespace

DataPlane::DataPlane() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (error() == 0) thread_ = std::thread([this] { run(); });
}

DataPlane::~DataPlane() {
  shutdown();
  // What the kernel did not give back within kShutdownPatience may still be written to: leaked rather than freed.
  for (auto& entry : links_) static_cast<void>(entry.second.release());
}

int DataPlane::error() const { return wake_ ? aio_.error() : -EMFILE; }

void DataPlane::post(std::function<void()> command) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    commands_.push_back(std::move(command));
  }
  const uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) < 0) return;  // EAGAIN: it is awake anyway
}

bool DataPlane::shutdown() {
  if (!thread_.joinable()) return links_.empty();
  post([this] { stopRequested_ = true; });
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  thread_.join();
  return links_.empty();
}

void DataPlane::runCommands() {
  uint64_t count;
  if (::read(wake_.get(), &count, sizeof count) < 0) return;
  std::vector<std::function<void()>> commands;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    commands.swap(commands_);
  }
  for (auto& command : commands) command();
}

void DataPlane::run() {
  pthread_setname_np(pthread_self(), "data-plane");
  auto giveUp = Clock::time_point::max();
  for (;;) {
    if (stopRequested_ && giveUp == Clock::time_point::max()) {
      giveUp = Clock::now() + kShutdownPatience;
      unwatchEp0();
      readers_.clear();
      captures_.clear();
      playbacks_.clear();
      sampleIos_.clear();
      listeners_.clear();
      for (auto& entry : links_) entry.second->close(0);
    }
    sweep();
    if (stopRequested_ && (links_.empty() || Clock::now() >= giveUp)) return;
    poller_.clear();
    // ep0 comes first: when it says that the bus is gone, nothing more must be submitted to an endpoint.
    if (bus_.isToBeRead()) poller_.add(bus_.ep0(), POLLIN, *this);
    poller_.add(wake_.get(), POLLIN, *this);
    for (auto& entry : links_) {
      if (!entry.second->closing()) entry.second->proceed();
    }
    // Before the requests that have arrived: what they enqueue must find out what has been filled already.
    for (auto& entry : captures_) entry.second->collect(poller_);
    poller_.add(aio_.eventFd(), POLLIN, *this);
    for (auto& entry : links_) {
      if (!entry.second->closing()) entry.second->collect(poller_);
    }
    for (auto& entry : playbacks_) entry.second->collect(poller_);
    for (auto& entry : sampleIos_) entry.second->collect(poller_);
    for (auto& entry : listeners_) entry.second->collect(poller_);
    const int timeout = pollTimeout();
    Clock::nextTurn();
    poller_.wait(timeout);
    aio_.reap();
    if (std::exchange(commandsWaiting_, false)) runCommands();
    expire();
  }
}

void DataPlane::expire() {
  const auto due = [](Clock::time_point deadline) {
    return deadline != Clock::time_point::max() && deadline <= Clock::now();
  };
  for (auto& entry : links_) {
    if (due(entry.second->nextDeadline())) entry.second->expire();
  }
  for (auto& entry : captures_) {
    if (due(entry.second->nextDeadline())) entry.second->expire();
  }
  for (auto& entry : readers_) {
    if (due(entry.second->nextDeadline())) entry.second->expire(Clock::now());
  }
  for (auto& entry : playbacks_) {
    if (due(entry.second->nextDeadline())) entry.second->expire(Clock::now());
  }
  for (auto& entry : sampleIos_) {
    if (due(entry.second->nextDeadline())) entry.second->expire(Clock::now());
  }
}

void DataPlane::onReady(int fd) {
  if (fd == wake_.get()) {
    // Not run here: a command may delete what the poller has yet to call.
    commandsWaiting_ = true;
  } else if (fd == aio_.eventFd()) {
    aio_.clearEvent();
    aio_.reap();
  } else {
    readEp0();
  }
}

void DataPlane::readEp0() {
  uapi::FfsEvent events[4];
  const ssize_t bytes = ::read(bus_.ep0(), events, sizeof events);
  if (bytes < 0) {
    // EIDRM: a control request was withdrawn by the host, which the next read no longer says. Anything else means that
    // FunctionFS has been taken from us.
    if (errno != EIDRM && errno != EAGAIN && errno != EINTR) bus_.unwatch();
    return;
  }
  for (size_t i = 0; i < static_cast<size_t>(bytes) / sizeof events[0]; i++) {
    const uapi::FfsEvent& event = events[i];
    if (event.type == uapi::kFfsDisable || event.type == uapi::kFfsUnbind) {
      for (auto& entry : links_) entry.second->busGone();
    }
    if (event.type == uapi::kFfsSetup) bus_.setBusy(true);
    ep0Handler_(event);
  }
}

void DataPlane::watchEp0(int fd, Ep0Handler handler) {
  bus_.watch(fd);
  ep0Handler_ = std::move(handler);
}

void DataPlane::unwatchEp0() { bus_.unwatch(); }

void DataPlane::addLink(Id id, std::unique_ptr<Link> link) { links_[id] = std::move(link); }

Link* DataPlane::link(Id id) const {
  const auto found = links_.find(id);
  return found == links_.end() ? nullptr : found->second.get();
}

void DataPlane::closeLink(Id id) {
  if (Link* closing = link(id)) closing->close(0);
}

/** Lets links that are closing go on with it, and takes them from their readers. */
void DataPlane::sweep() {
  for (auto entry = links_.begin(); entry != links_.end();) {
    Link& link = *entry->second;
    if (!link.closing()) {
      ++entry;
      continue;
    }
    for (auto& reader : readers_) reader.second->unlinkFrom(link);
    for (auto& playback : playbacks_) playback.second->unlinkFrom(link);
    if (!link.finishClosing()) {
      ++entry;
      continue;
    }
    for (auto& reader : readers_) reader.second->linkGone(link);
    entry = links_.erase(entry);
  }
}

Capture* DataPlane::capture(Id id) const {
  const auto found = captures_.find(id);
  return found == captures_.end() ? nullptr : found->second.get();
}

void DataPlane::removeCapture(Id id) {
  const Capture* gone = capture(id);
  for (auto entry = readers_.begin(); entry != readers_.end();) {
    entry = &entry->second->capture() == gone ? readers_.erase(entry) : std::next(entry);
  }
  captures_.erase(id);
}

Reader* DataPlane::reader(Id id) const {
  const auto found = readers_.find(id);
  return found == readers_.end() ? nullptr : found->second.get();
}

Playback* DataPlane::playback(Id id) const {
  const auto found = playbacks_.find(id);
  return found == playbacks_.end() ? nullptr : found->second.get();
}

SampleIo* DataPlane::sampleIo(Id id) const {
  const auto found = sampleIos_.find(id);
  return found == sampleIos_.end() ? nullptr : found->second.get();
}

TcpListener* DataPlane::listener(Id id) const {
  const auto found = listeners_.find(id);
  return found == listeners_.end() ? nullptr : found->second.get();
}

int DataPlane::pollTimeout() const {
  // A cancelled request may come back without waking us.
  const auto closing = [](const auto& entry) { return entry.second->closing(); };
  if (stopRequested_ || std::any_of(links_.begin(), links_.end(), closing)) return 2;
  auto first = Clock::time_point::max();
  for (const auto& entry : links_) first = std::min(first, entry.second->nextDeadline());
  for (const auto& entry : captures_) first = std::min(first, entry.second->nextDeadline());
  for (const auto& entry : readers_) first = std::min(first, entry.second->nextDeadline());
  for (const auto& entry : playbacks_) first = std::min(first, entry.second->nextDeadline());
  for (const auto& entry : sampleIos_) first = std::min(first, entry.second->nextDeadline());
  if (first == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(first - Clock::now()).count();
  return static_cast<int>(std::clamp<long long>(left, 0, 60'000));
}

}  // namespace iio_bridge
