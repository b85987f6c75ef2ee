#include "fake_kernel.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <utility>

#include "../src/uapi.h"
#include "wrap.h"

namespace fake {
namespace {

namespace uapi = iio_bridge::uapi;

constexpr size_t kNotes = 60;
Kernel* theKernel = nullptr;

const char* nameOf(unsigned long request) {
  switch (request) {
    case uapi::kFfsDmabufAttach:
    case uapi::kIioDmabufAttach:
      return "ATTACH";
    case uapi::kFfsDmabufDetach:
    case uapi::kIioDmabufDetach:
      return "DETACH";
    case uapi::kFfsDmabufTransfer:
      return "TRANSFER";
    case uapi::kIioDmabufEnqueue:
      return "ENQUEUE";
    case uapi::kDmaBufExportSyncFile:
      return "EXPORT_SYNC_FILE";
    case uapi::kSyncIocFileInfo:
      return "FILE_INFO";
    case uapi::kFfsFifoFlush:
      return "FIFO_FLUSH";
    case uapi::kDmaBufSync:
      return "SYNC";
    default:
      return "unknown";
  }
}

template <typename T>
T& as(void* argument) {
  return *static_cast<T*>(argument);
}

}  // namespace

void die(const std::string& rule) {
  if (theKernel != nullptr) theKernel->printNotes();
  std::fprintf(stderr, "the fake kernel is dead: %s\n", rule.c_str());
  std::abort();
}

/** Makes an eventfd readable, or not. */
void setReadable(int event, bool readable) {
  uint64_t count = 1;
  if (readable) {
    real::write(event, &count, sizeof count);
  } else {
    real::read(event, &count, sizeof count);
  }
}

int makeEvent() { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

int File::ioctl(unsigned long, void*) { return -ENOTTY; }
long File::read(void*, size_t) { return -EINVAL; }
long File::write(const void*, size_t) { return -EINVAL; }

// Fences

void Fence::signal(int result) {
  if (status != 0) return;
  status = result;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  endedAtNs = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  for (const auto& watcher : std::exchange(watchers, {})) {
    if (const auto file = watcher.lock()) file->fenceSignalled();
  }
}

SyncFile::SyncFile(int event, std::vector<FencePtr> fences)
    : File("sync_file"), event_(event), fences_(std::move(fences)) {
  if (status() != 0) setReadable(event_, true);
}

int SyncFile::status() const {
  int error = 1;
  for (const auto& fence : fences_) {
    if (fence->status == 0) return 0;
    if (fence->status < 0 && error == 1) error = fence->status;
  }
  return error;
}

void SyncFile::checkLocks(const char* use) const {
  for (const auto& fence : fences_) {
    if (!*fence->lockExists) die(std::string(use) + " of a fence whose attachment was freed (DETACH or close): use after free");
  }
}

int SyncFile::ioctl(unsigned long request, void* argument) {
  if (request != uapi::kSyncIocFileInfo) return -ENOTTY;
  auto& info = as<uapi::SyncFileInfo>(argument);
  // A file of several fences is asked without a look at them, unless each is to be told of.
  if (fences_.size() == 1 || info.num_fences > 0) checkLocks("SYNC_IOC_FILE_INFO");
  info.status = status();
  const size_t room = info.num_fences;
  info.num_fences = static_cast<uint32_t>(std::max<size_t>(1, fences_.size()));
  if (room == 0) return 0;
  if (room < info.num_fences) return -EINVAL;
  auto* told = reinterpret_cast<uapi::SyncFenceInfo*>(static_cast<uintptr_t>(info.sync_fence_info));
  for (size_t i = 0; i < fences_.size(); i++) {
    told[i].status = fences_[i]->status;
    told[i].timestamp_ns = fences_[i]->endedAtNs;
  }
  return 0;
}

// The first poll() leaves a callback with every fence.
void SyncFile::polled() {
  if (fences_.size() == 1 || !polled_) checkLocks("poll()");
  polled_ = true;
}

// Closing takes it back; of a file of several fences, from what holds them together.
void SyncFile::closed() {
  if (polled_ && fences_.size() == 1) checkLocks("close()");
}

void SyncFile::fenceSignalled() {
  if (status() != 0) setReadable(event_, true);
}

// dmabufs

Dmabuf::Dmabuf(Kernel& kernel, std::string name, int memory, size_t size)
    : File(std::move(name)), kernel_(kernel), memory_(memory), size_(size) {}

int Dmabuf::ioctl(unsigned long request, void* argument) {
  if (request == uapi::kDmaBufSync) return 0;
  if (request != uapi::kDmaBufExportSyncFile) return -ENOTTY;
  auto& exported = as<uapi::DmaBufExportSyncFile>(argument);
  std::vector<FencePtr> wanted;
  for (const auto& fence : fences_) {
    if (fence->status == 0 && (fence->writesMemory || exported.flags & uapi::kSyncWrite)) wanted.push_back(fence);
  }
  const int event = makeEvent();
  const auto file = std::make_shared<SyncFile>(event, wanted);
  for (const auto& fence : wanted) fence->watchers.push_back(file);
  exported.fd = kernel_.install(event, file);
  return 0;
}

void Dmabuf::store(size_t offset, const void* data, size_t bytes) {
  if (::pwrite(memory_, data, bytes, static_cast<off_t>(offset)) != static_cast<ssize_t>(bytes)) die("no memory");
}

Bytes Dmabuf::load(size_t bytes) const {
  Bytes data(bytes);
  if (::pread(memory_, data.data(), bytes, 0) != static_cast<ssize_t>(bytes)) die("no memory");
  return data;
}

bool Dmabuf::busyFor(bool writing) const {
  return std::any_of(fences_.begin(), fences_.end(), [&](const FencePtr& fence) {
    return fence->status == 0 && (writing || fence->writesMemory);
  });
}

void Dmabuf::addFence(FencePtr fence) {
  fences_.erase(std::remove_if(fences_.begin(), fences_.end(), [](const FencePtr& old) { return old->status != 0; }),
                fences_.end());
  fences_.push_back(std::move(fence));
}

// IIO buffers

IioBuffer::IioBuffer(Kernel& kernel, std::string name, int event, Direction direction)
    : File(std::move(name)), kernel_(kernel), event_(event), direction_(direction) {
  showReadiness();
}

int IioBuffer::ioctl(unsigned long request, void* argument) {
  if (request == uapi::kIioDmabufAttach) return attach(as<int>(argument));
  if (request == uapi::kIioDmabufDetach) return detach(as<int>(argument));
  if (request == uapi::kIioDmabufEnqueue) return enqueue(argument);
  return -ENOTTY;
}

int IioBuffer::attach(int fd) {
  if (!takesDmabufs) return -EPERM;
  const auto dmabuf = kernel_.fileOf<Dmabuf>(fd);
  if (!dmabuf) return -EINVAL;
  if (std::count(attached_.begin(), attached_.end(), dmabuf) != 0 || hadFileIo_) return -EBUSY;
  if (!enabled_ && !queue_.empty() && !removed_ && !disabledBehind_) die("ATTACH forgets the blocks that were enqueued into a disabled buffer");
  hadDmabufs_ = true;
  attached_.push_back(dmabuf);
  return 0;
}

int IioBuffer::detach(int fd) {
  const auto dmabuf = kernel_.fileOf<Dmabuf>(fd);
  const auto found = std::find(attached_.begin(), attached_.end(), dmabuf);
  if (found == attached_.end()) return -EPERM;
  attached_.erase(found);
  stuck_.erase(std::remove(stuck_.begin(), stuck_.end(), dmabuf), stuck_.end());
  return 0;
}

int IioBuffer::enqueue(const void* argument) {
  const auto& wanted = *static_cast<const uapi::IioDmabuf*>(argument);
  const auto dmabuf = kernel_.fileOf<Dmabuf>(static_cast<int>(wanted.fd));
  if (!dmabuf || std::count(attached_.begin(), attached_.end(), dmabuf) == 0) return -EPERM;
  const bool cyclic = wanted.flags == 1;
  if (wanted.flags > 1 || (cyclic && direction_ == Direction::kInput)) return -EINVAL;
  if (wanted.bytes_used == 0 || wanted.bytes_used > dmabuf->size()) return -EINVAL;
  if (!enabled_ && !disabledBehind_ && !removed_) {
    die("ENQUEUE into a disabled buffer: the next ATTACH forgets the block, or the next program's enable fills it");
  }
  const bool writes = direction_ == Direction::kInput;
  if (dmabuf->busyFor(writes) || std::count(stuck_.begin(), stuck_.end(), dmabuf) != 0) return -EBUSY;
  auto fence = std::make_shared<Fence>();
  fence->writesMemory = writes;
  if (failPreparation_ > 0) {
    failPreparation_--;
    stuck_.push_back(dmabuf);
    fence->signal(-ENOMEM);
  } else {
    queue_.push_back({dmabuf, wanted.bytes_used, fence});
  }
  dmabuf->addFence(fence);
  return 0;
}

long IioBuffer::read(void* data, size_t bytes) {
  if (hadDmabufs_) die("read() of a buffer that has had a dmabuf: null pointer dereference");
  hadFileIo_ = true;
  if (!enabled_ || unread_.empty()) return -EAGAIN;
  const size_t count = std::min(bytes, unread_.size());
  std::memcpy(data, unread_.data(), count);
  unread_.erase(unread_.begin(), unread_.begin() + static_cast<ptrdiff_t>(count));
  kernel_.note(name() + ": read " + std::to_string(count));
  showReadiness();
  return static_cast<long>(count);
}

long IioBuffer::write(const void* data, size_t bytes) {
  if (hadDmabufs_) die("write() to a buffer that has had a dmabuf: null pointer dereference");
  hadFileIo_ = true;
  if (room_ == 0) return -EAGAIN;
  const size_t count = std::min(bytes, room_);
  const auto* first = static_cast<const uint8_t*>(data);
  played_.insert(played_.end(), first, first + count);
  room_ -= count;
  showReadiness();
  return static_cast<long>(count);
}

void IioBuffer::enable() {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  kernel_.note("enable");
  enabled_ = true;
  disabledBehind_ = false;
  next_ = 0;
  unread_.clear();
  showReadiness();
}

void IioBuffer::disable() {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  kernel_.note("disable");
  enabled_ = false;
  disabledBehind_ = false;
  abortAll();
  showReadiness();
}

void IioBuffer::disableBehindItsBack() {
  const bool isTold = std::any_of(queue_.begin(), queue_.end(), [](const Queued& block) {
    return std::any_of(block.fence->watchers.begin(), block.fence->watchers.end(),
                       [](const auto& watcher) { return !watcher.expired(); });
  });
  disable();
  disabledBehind_ = !isTold;
}

void IioBuffer::remove() {
  disable();
  removed_ = true;
}

void IioBuffer::abortAll() {
  for (const Queued& block : std::exchange(queue_, {})) block.fence->signal(-EINTR);
}

bool IioBuffer::transferBlock(int status) {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  if (!enabled_ || removed_ || queue_.empty()) return false;
  const Queued block = std::move(queue_.front());
  queue_.pop_front();
  kernel_.note("transferred " + block.dmabuf->name() + ", status " + std::to_string(status) + ", from set " +
               std::to_string(next_));
  if (status == 1 && direction_ == Direction::kInput) {
    std::vector<uint64_t> sets((block.bytes + 7) / 8);
    for (uint64_t& set : sets) set = next_++;
    block.dmabuf->store(0, sets.data(), block.bytes);
  } else if (status == 1) {
    const Bytes bytes = block.dmabuf->load(block.bytes);
    played_.insert(played_.end(), bytes.begin(), bytes.end());
  }
  block.fence->signal(status);
  return true;
}

void IioBuffer::makeReady(size_t bytes) {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  if (direction_ == Direction::kOutput) {
    room_ += bytes;
  } else {
    for (size_t i = 0; i < bytes / 8; i++, next_++) {
      const auto* set = reinterpret_cast<const uint8_t*>(&next_);
      unread_.insert(unread_.end(), set, set + sizeof next_);
    }
  }
  showReadiness();
}

// An eventfd is writable up to one below its highest value, and readable above 0.
void IioBuffer::showReadiness() {
  uint64_t count = 0;
  real::read(event_, &count, sizeof count);
  if (direction_ == Direction::kInput) {
    count = enabled_ && !unread_.empty() ? 1 : 0;
  } else {
    count = room_ > 0 ? 0 : UINT64_MAX - 1;
  }
  if (count != 0) real::write(event_, &count, sizeof count);
}

// The kernel itself

struct Kernel::Ring {
  // fs/aio.c, struct aio_ring
  struct Header {
    uint32_t id, nr, head, tail, magic, compatFeatures, incompatFeatures, headerLength;
  };
  explicit Ring(uint32_t slots) : memory(sizeof(Header) / 8 + slots * sizeof(io_event) / 8) { header().nr = slots; }
  Header& header() { return *reinterpret_cast<Header*>(memory.data()); }
  io_event* events() { return reinterpret_cast<io_event*>(memory.data() + sizeof(Header) / 8); }
  uint32_t head() { return __atomic_load_n(&header().head, __ATOMIC_ACQUIRE); }
  uint32_t unread() { return (header().tail + header().nr - head()) % header().nr; }

  std::vector<uint64_t> memory;
  std::vector<RequestPtr> pending;
};

Kernel::Kernel(bool scatterGather) : usb_(*this, scatterGather) {
  if (theKernel != nullptr) die("a test has one kernel");
  theKernel = this;
}

Kernel::~Kernel() {
  held_.clear();
  for (const auto& [fd, file] : files_) die("left open: " + file->name() + ", descriptor " + std::to_string(fd));
  if (!rings_.empty()) die("left: an AIO context");
  if (dmabufs() != 0) die("left: a dmabuf");
  theKernel = nullptr;
}

Kernel* Kernel::current() { return theKernel; }

size_t Kernel::dmabufs() const {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  return static_cast<size_t>(
      std::count_if(dmabufs_.begin(), dmabufs_.end(), [](const auto& dmabuf) { return !dmabuf.expired(); }));
}

int Kernel::install(int fd, const std::shared_ptr<File>& file) {
  files_[fd] = file;
  file->references_++;
  return fd;
}

Kernel::Opened<Dmabuf> Kernel::makeDmabuf(size_t bytes) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const int fd = ::memfd_create("dmabuf", MFD_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) die("no memory");
  // The deleter closes the kernel's own descriptor of the memory.
  const int memory = ::dup(fd);
  const DmabufPtr dmabuf(new Dmabuf(*this, "dmabuf " + std::to_string(names_++), memory, bytes),
                         [memory](Dmabuf* gone) {
                           delete gone;
                           real::close(memory);
                         });
  dmabufs_.push_back(dmabuf);
  return {install(fd, dmabuf), dmabuf};
}

Kernel::Opened<IioBuffer> Kernel::openIioBuffer(IioBuffer::Direction direction) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const int fd = makeEvent();
  const auto buffer = std::make_shared<IioBuffer>(*this, "IIO buffer " + std::to_string(names_++), fd, direction);
  return {install(fd, buffer), buffer};
}

Kernel::Opened<Endpoint> Kernel::openEndpoint(Endpoint::Direction direction, size_t packetBytes) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const auto endpoint =
      std::make_shared<Endpoint>(*this, usb_, "endpoint " + std::to_string(names_++), direction, packetBytes);
  usb_.endpoints_.push_back(endpoint);
  return {install(makeEvent(), endpoint), endpoint};
}

Kernel::Opened<Ep0> Kernel::openEp0() {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const int fd = makeEvent();
  usb_.ep0_ = std::make_shared<Ep0>(fd);
  return {install(fd, usb_.ep0_), usb_.ep0_};
}

int Kernel::duplicate(int fd) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  return install(::dup(fd), files_.at(fd));
}

void Kernel::failIoctl(unsigned long request, int error, unsigned nth) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  failures_[request].emplace_back(nth, error);
}

bool Kernel::owns(int fd) const {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  return files_.count(fd) != 0;
}

void Kernel::note(std::string what) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  if (std::getenv("TRACE") != nullptr) std::fprintf(stderr, "  %s\n", what.c_str());
  notes_.push_back(std::move(what));
  if (notes_.size() > kNotes) notes_.pop_front();
}

void Kernel::printNotes() const {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  for (const std::string& note : notes_) std::fprintf(stderr, "  %s\n", note.c_str());
}

int Kernel::ioctl(int fd, unsigned long request, void* argument) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const auto file = files_.at(fd);
  int result = 1;
  for (auto& [nth, error] : failures_[request]) {
    if (nth > 0 && --nth == 0) result = -error;
  }
  if (result > 0) result = file->ioctl(request, argument);
  note(file->name() + ": " + nameOf(request) + " = " + std::to_string(result));
  return result;
}

long Kernel::read(int fd, void* data, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  return files_.at(fd)->read(data, bytes);
}

long Kernel::write(int fd, const void* data, size_t bytes) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  return files_.at(fd)->write(data, bytes);
}

void Kernel::aboutToPoll(int fd) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const auto found = files_.find(fd);
  if (found != files_.end()) found->second->polled();
}

void Kernel::close(int fd) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const auto file = files_.at(fd);
  files_.erase(fd);
  file->closed();
  release(file);
}

void Kernel::release(const std::shared_ptr<File>& file) {
  if (--file->references_ == 0) file->released();
}

// AIO

Kernel::Ring& Kernel::ringOf(aio_context_t context) const {
  const auto found = rings_.find(context);
  if (found == rings_.end()) die("no such AIO context");
  return *found->second;
}

long Kernel::ioSetup(unsigned count, aio_context_t* context) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  auto ring = std::make_unique<Ring>(count + 1);
  if (!hideRings_) ring->header().magic = 0xa10a10a1;
  *context = reinterpret_cast<aio_context_t>(ring->memory.data());
  rings_[*context] = std::move(ring);
  return 0;
}

long Kernel::ioDestroy(aio_context_t context) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  if (!ringOf(context).pending.empty()) die("io_destroy() would wait for requests that are pending");
  rings_.erase(context);
  return 0;
}

long Kernel::ioSubmit(aio_context_t context, long count, iocb** controls) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  Ring& ring = ringOf(context);
  for (long i = 0; i < count; i++) {
    const iocb& control = *controls[i];
    const auto endpoint = fileOf<Endpoint>(static_cast<int>(control.aio_fildes));
    if (!endpoint) return i > 0 ? i : -EBADF;
    if (ring.pending.size() + ring.unread() + 1 >= ring.header().nr) return i > 0 ? i : -EAGAIN;
    auto request = std::make_shared<Request>();
    request->user = controls[i];
    request->control = control;
    request->file = endpoint;
    endpoint->references_++;
    ring.pending.push_back(request);
    endpoint->submit(request);
  }
  return count;
}

long Kernel::ioCancel(aio_context_t context, iocb* control) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  for (const auto& request : ringOf(context).pending) {
    if (request->user != control) continue;
    return std::static_pointer_cast<Endpoint>(request->file)->cancel(control) ? -EINPROGRESS : -EINVAL;
  }
  return -EINVAL;
}

long Kernel::ioGetEvents(aio_context_t context, long count, io_event* events) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  Ring& ring = ringOf(context);
  long given = 0;
  for (; given < count && ring.unread() > 0; given++) {
    events[given] = ring.events()[ring.head()];
    ring.header().head = (ring.header().head + 1) % ring.header().nr;
  }
  return given;
}

void Kernel::ended(const RequestPtr& request, long result) {
  if (holding_) {
    held_.push_back({request, result});
  } else {
    deliver({request, result});
  }
}

void Kernel::deliver(const Completion& completion) {
  const iocb& control = completion.request->control;
  for (const auto& [context, ring] : rings_) {
    auto& pending = ring->pending;
    const auto found = std::find(pending.begin(), pending.end(), completion.request);
    if (found == pending.end()) continue;
    pending.erase(found);
    io_event& event = ring->events()[ring->header().tail];
    event = {control.aio_data, reinterpret_cast<uintptr_t>(completion.request->user), completion.result, 0};
    __atomic_store_n(&ring->header().tail, (ring->header().tail + 1) % ring->header().nr, __ATOMIC_RELEASE);
    break;
  }
  if (control.aio_flags & IOCB_FLAG_RESFD) setReadable(static_cast<int>(control.aio_resfd), true);
  release(completion.request->file);
}

void Kernel::holdCompletions(bool hold) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  holding_ = hold;
  if (!hold) deliverAll();
}

size_t Kernel::heldCompletions() const {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  return held_.size();
}

void Kernel::deliver(size_t index) {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  const Completion completion = held_.at(index);
  held_.erase(held_.begin() + static_cast<ptrdiff_t>(index));
  deliver(completion);
}

void Kernel::deliverAll() {
  const std::lock_guard<std::recursive_mutex> guard(lock_);
  for (const Completion& completion : std::exchange(held_, {})) deliver(completion);
}

}  // namespace fake
