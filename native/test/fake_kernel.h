#pragma once

// The kernel as the data plane sees it, in the test's own process: dmabufs and their fences, IIO buffers, FunctionFS
// endpoints, and Linux AIO. The linker puts it in the place of the system calls (wrap.cc), so the product is tested as it
// is. Every descriptor that it hands out is a real one, an eventfd or a memfd, so that poll() and mmap() are the real ones.
//
// It models Linux 6.12 with its bugs: where that kernel would use freed memory, dereference a null pointer or lose a block
// for ever, this one says which rule was broken and aborts the test.

#include <linux/aio_abi.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace fake {

using Bytes = std::vector<uint8_t>;

class Kernel;
class SyncFile;

/** What a descriptor stands for; gone with its last reference, which may be a pending AIO request's. */
class File {
 public:
  explicit File(std::string name) : name_(std::move(name)) {}
  virtual ~File() = default;

  // Results are those of the system calls, with negative errnos. The kernel's lock is held.
  virtual int ioctl(unsigned long request, void* argument);
  virtual long read(void* data, size_t bytes);
  virtual long write(const void* data, size_t bytes);
  virtual void polled() {}
  virtual void closed() {}
  virtual void released() {}

  const std::string& name() const { return name_; }

 private:
  friend class Kernel;
  const std::string name_;
  int references_ = 0;
};

/** One transfer's end (struct dma_fence). */
struct Fence {
  bool writesMemory = false;
  int status = 0;  // 1: done; negative: the errno
  uint64_t endedAtNs = 0;
  /** FunctionFS keeps the fence's lock in the attachment: false once that has been freed. */
  std::shared_ptr<bool> lockExists = std::make_shared<bool>(true);
  std::vector<std::weak_ptr<SyncFile>> watchers;

  void signal(int result);
};
using FencePtr = std::shared_ptr<Fence>;

class SyncFile : public File {
 public:
  SyncFile(int event, std::vector<FencePtr> fences);
  int ioctl(unsigned long request, void* argument) override;
  void polled() override;
  void closed() override;
  void fenceSignalled();

 private:
  int status() const;
  void checkLocks(const char* use) const;

  const int event_;
  const std::vector<FencePtr> fences_;
  bool polled_ = false;
};

class Dmabuf : public File {
 public:
  Dmabuf(Kernel& kernel, std::string name, int memory, size_t size);
  int ioctl(unsigned long request, void* argument) override;

  size_t size() const { return size_; }
  void store(size_t offset, const void* data, size_t bytes);
  Bytes load(size_t bytes) const;
  /** Whether a transfer is pending that a new one, which writes the memory or only reads it, would have to wait for. */
  bool busyFor(bool writing) const;
  void addFence(FencePtr fence);

 private:
  Kernel& kernel_;
  const int memory_;  // a descriptor of the kernel's own
  const size_t size_;
  std::vector<FencePtr> fences_;
};
using DmabufPtr = std::shared_ptr<Dmabuf>;

/**
 * The buffer of a converter whose sample sets are u64 numbers: an input counts, an output collects what it has played.
 * It moves when the test says so.
 */
class IioBuffer : public File {
 public:
  enum class Direction { kInput, kOutput };
  IioBuffer(Kernel& kernel, std::string name, int event, Direction direction);

  int ioctl(unsigned long request, void* argument) override;
  long read(void* data, size_t bytes) override;
  long write(const void* data, size_t bytes) override;
  void released() override {
    attached_.clear();
    stuck_.clear();
  }

  // What the hardware and other programs do.
  void enable();
  void disable();
  /** Another program writes 0 to `enable`. The one that streams can know by the fences that it has. */
  void disableBehindItsBack();
  /** The driver's module is unloaded: blocks are still taken, and never come back. */
  void remove();
  /** Ends the oldest queued block, by default as it should be; false where there is none. */
  bool transferBlock(int status = 1);
  /** An input's next set is later by so many. */
  void lose(uint64_t sets) { next_ += sets; }
  /** Bytes that read() has to give, or write() has room for. */
  void makeReady(size_t bytes);
  /** The next ENQUEUE gets a block whose transfer cannot be prepared. */
  void refusePreparation() { failPreparation_++; }

  size_t queued() const { return queue_.size(); }
  bool enabled() const { return enabled_; }
  const Bytes& played() const { return played_; }
  bool takesDmabufs = true;

 private:
  struct Queued {
    DmabufPtr dmabuf;
    size_t bytes;
    FencePtr fence;
  };

  int attach(int fd);
  int detach(int fd);
  int enqueue(const void* argument);
  void abortAll();
  void showReadiness();

  Kernel& kernel_;
  const int event_;
  const Direction direction_;
  std::vector<DmabufPtr> attached_;
  std::vector<DmabufPtr> stuck_;  // until they are detached: their transfers could not be submitted
  std::deque<Queued> queue_;
  uint64_t next_ = 0;
  Bytes played_;
  Bytes unread_;
  size_t room_ = 0;
  int failPreparation_ = 0;
  bool enabled_ = false;
  bool disabledBehind_ = false;
  bool removed_ = false;
  bool hadDmabufs_ = false;
  bool hadFileIo_ = false;
};

/** A pending asynchronous read or write. */
struct Request {
  iocb* user = nullptr;
  iocb control{};
  std::shared_ptr<File> file;
  Bytes data;  // of a write: FunctionFS copies it while it takes the request
};
using RequestPtr = std::shared_ptr<Request>;

class Usb;

/** An endpoint file of FunctionFS, and the host at its other end. */
class Endpoint : public File {
 public:
  enum class Direction { kIn, kOut };
  Endpoint(Kernel& kernel, Usb& usb, std::string name, Direction direction, size_t packetBytes);

  int ioctl(unsigned long request, void* argument) override;
  void released() override;
  void submit(const RequestPtr& request);
  bool cancel(const iocb* user);

  // The host's side.
  /** IN: takes the oldest transfer; false where none is queued. */
  bool hostTakes();
  /** Everything that the host has taken. */
  const Bytes& taken() const { return taken_; }
  /** OUT: a transfer, whose packets wait until somebody has posted reads for them. */
  void hostSends(Bytes transfer);
  size_t hostUnsent() const { return sending_.size(); }

  size_t queued() const { return queue_.size(); }
  /** Fails everything that is queued, as when the bus resets. */
  void failAll(int error);

 private:
  struct Attachment {
    DmabufPtr dmabuf;
    std::shared_ptr<bool> lock = std::make_shared<bool>(true);
  };
  using AttachmentPtr = std::shared_ptr<Attachment>;
  struct Entry {
    RequestPtr request;        // of AIO
    AttachmentPtr attachment;  // of TRANSFER
    FencePtr fence;
    size_t length = 0;
    size_t filled = 0;  // OUT
  };

  int attach(int fd);
  int detach(int fd);
  int transfer(const void* argument);
  void moveOut();
  void end(const Entry& entry, long result);
  AttachmentPtr attachmentOf(const Dmabuf* dmabuf) const;

  Kernel& kernel_;
  Usb& usb_;
  const Direction direction_;
  const size_t packetBytes_;
  std::vector<AttachmentPtr> attachments_;
  std::deque<Entry> queue_;
  Bytes taken_;
  std::deque<Bytes> sending_;
};
using EndpointPtr = std::shared_ptr<Endpoint>;

/** ep0's file: events towards the gadget. */
class Ep0 : public File {
 public:
  explicit Ep0(int event) : File("ep0"), event_(event) {}
  long read(void* data, size_t bytes) override;
  void polled() override;
  void tell(uint8_t type);
  /** The gadget has answered the control request. */
  void answered() { setupPending_ = false; }

 private:
  const int event_;
  std::deque<uint8_t> events_;
  bool setupPending_ = false;
};

/** The bus, and the controller that the gadget is bound to. */
class Usb {
 public:
  Usb(Kernel& kernel, bool scatterGather) : scatterGather(scatterGather), kernel_(kernel) {}

  void reset();
  void disable();
  void enable();
  void unbind();
  void setup();

  bool bound() const { return bound_; }
  bool enabled() const { return enabled_; }
  std::shared_ptr<Ep0> ep0() const { return ep0_; }
  const bool scatterGather;

 private:
  friend class Kernel;
  void failTransfers();
  void tell(uint8_t event);

  Kernel& kernel_;
  std::vector<std::weak_ptr<Endpoint>> endpoints_;
  std::shared_ptr<Ep0> ep0_;
  bool bound_ = true;
  bool enabled_ = true;
};

/** The one kernel of a test. Its end checks that nothing is left: no descriptor, no reference, no AIO context. */
class Kernel {
 public:
  explicit Kernel(bool scatterGather = true);
  ~Kernel();
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  static Kernel* current();

  // Each gives a descriptor, which is the caller's, and the object behind it.
  template <typename T>
  struct Opened {
    int fd;
    std::shared_ptr<T> file;
  };
  Opened<Dmabuf> makeDmabuf(size_t bytes);
  Opened<IioBuffer> openIioBuffer(IioBuffer::Direction direction);
  Opened<Endpoint> openEndpoint(Endpoint::Direction direction, size_t packetBytes = 512);
  Opened<Ep0> openEp0();
  /** Another descriptor of the same file. */
  int duplicate(int fd);
  Usb& usb() { return usb_; }

  /** The next ioctl of this number that would be the `nth` from now on (1 is the next) fails with this errno. */
  void failIoctl(unsigned long request, int error, unsigned nth = 1);

  /** While held, ended AIO requests wait for deliver(), as they wait for a worker of the kernel. */
  void holdCompletions(bool hold);
  size_t heldCompletions() const;
  void deliver(size_t index);
  void deliverAll();
  /** AIO contexts made from now on have no ring that the program can read. */
  void hideRings() { hideRings_ = true; }

  /** dmabufs that exist. */
  size_t dmabufs() const;

  // The system calls (wrap.cc): results as the kernel gives them, with negative errnos.
  bool owns(int fd) const;
  int ioctl(int fd, unsigned long request, void* argument);
  long read(int fd, void* data, size_t bytes);
  long write(int fd, const void* data, size_t bytes);
  void aboutToPoll(int fd);
  void close(int fd);
  long ioSetup(unsigned count, aio_context_t* context);
  long ioDestroy(aio_context_t context);
  long ioSubmit(aio_context_t context, long count, iocb** controls);
  long ioCancel(aio_context_t context, iocb* control);
  long ioGetEvents(aio_context_t context, long count, io_event* events);

  // For the objects; the lock is held.
  template <typename T>
  std::shared_ptr<T> fileOf(int fd) const {
    const auto found = files_.find(fd);
    return found == files_.end() ? nullptr : std::dynamic_pointer_cast<T>(found->second);
  }
  int install(int fd, const std::shared_ptr<File>& file);
  void ended(const RequestPtr& request, long result);
  /** What happened lately is printed when the kernel dies. */
  void note(std::string what);
  void printNotes() const;
  std::recursive_mutex& lock() const { return lock_; }

 private:
  struct Ring;
  struct Completion {
    RequestPtr request;
    long result;
  };

  void release(const std::shared_ptr<File>& file);
  void deliver(const Completion& completion);
  Ring& ringOf(aio_context_t context) const;

  // One lock for everything, and recursive because the test calls in from the side as the product does from below.
  mutable std::recursive_mutex lock_;
  std::map<int, std::shared_ptr<File>> files_;
  std::vector<std::weak_ptr<Dmabuf>> dmabufs_;
  std::map<aio_context_t, std::unique_ptr<Ring>> rings_;
  std::map<unsigned long, std::vector<std::pair<unsigned, int>>> failures_;
  std::vector<Completion> held_;
  bool holding_ = false;
  bool hideRings_ = false;
  unsigned names_ = 0;
  std::deque<std::string> notes_;
  Usb usb_;
};

/** The kernel is dead, or has lost memory for ever: says why, what happened before, and aborts. */
[[noreturn]] void die(const std::string& rule);

/** A descriptor to poll, and what poll() says of it. */
int makeEvent();
void setReadable(int event, bool readable);

}  // namespace fake
