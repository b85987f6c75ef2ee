#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "../src/uapi.h"
#include "fake_kernel.h"

namespace fake {
namespace {

namespace uapi = iio_bridge::uapi;

constexpr uint8_t kEventUnbind = 1;
constexpr uint8_t kEventEnable = 2;
constexpr uint8_t kEventDisable = 3;
constexpr uint8_t kEventSetup = 4;
constexpr uint8_t kEventSuspend = 5;

}  // namespace

Endpoint::Endpoint(Kernel& kernel, Usb& usb, std::string name, Direction direction, size_t packetBytes)
    : File(std::move(name)), kernel_(kernel), usb_(usb), direction_(direction), packetBytes_(packetBytes) {}

int Endpoint::ioctl(unsigned long request, void* argument) {
  if (request == uapi::kFfsDmabufAttach) return attach(*static_cast<int*>(argument));
  if (request == uapi::kFfsDmabufDetach) return detach(*static_cast<int*>(argument));
  if (request == uapi::kFfsDmabufTransfer) return transfer(argument);
  if (request == uapi::kFfsFifoFlush) return usb_.enabled() ? 0 : -EAGAIN;
  return -ENOTTY;
}

Endpoint::AttachmentPtr Endpoint::attachmentOf(const Dmabuf* dmabuf) const {
  const auto found = std::find_if(attachments_.begin(), attachments_.end(),
                                  [&](const AttachmentPtr& attachment) { return attachment->dmabuf.get() == dmabuf; });
  return found == attachments_.end() ? nullptr : *found;
}

int Endpoint::attach(int fd) {
  const auto dmabuf = kernel_.fileOf<Dmabuf>(fd);
  if (!dmabuf) return -EINVAL;
  if (!usb_.bound() || !usb_.scatterGather) return -EPERM;
  auto attachment = std::make_shared<Attachment>();
  attachment->dmabuf = dmabuf;
  attachments_.push_back(std::move(attachment));
  return 0;
}

int Endpoint::detach(int fd) {
  if (!usb_.bound()) die("DETACH after the controller was unbound: null pointer dereference");
  const auto attachment = attachmentOf(kernel_.fileOf<Dmabuf>(fd).get());
  if (!attachment) return -EPERM;
  // Only the attachment's last transfer is taken back.
  const auto last = std::find_if(queue_.rbegin(), queue_.rend(),
                                 [&](const Entry& entry) { return entry.attachment == attachment; });
  if (last != queue_.rend()) {
    const Entry entry = *last;
    queue_.erase(std::next(last).base());
    end(entry, -ECONNRESET);
  }
  *attachment->lock = false;
  attachments_.erase(std::find(attachments_.begin(), attachments_.end(), attachment));
  return 0;
}

int Endpoint::transfer(const void* argument) {
  const auto& wanted = *static_cast<const uapi::FfsDmabufTransfer*>(argument);
  if (!usb_.bound()) die("TRANSFER after the controller was unbound: null pointer dereference");
  const auto dmabuf = kernel_.fileOf<Dmabuf>(wanted.fd);
  const auto attachment = attachmentOf(dmabuf.get());
  if (!attachment) return -EPERM;
  if (wanted.flags != 0 || wanted.length == 0 || wanted.length > dmabuf->size()) return -EINVAL;
  if (!usb_.enabled()) return -EAGAIN;
  const bool writes = direction_ == Direction::kOut;
  if (dmabuf->busyFor(writes)) return -EBUSY;
  if (std::any_of(queue_.begin(), queue_.end(), [&](const Entry& entry) { return entry.attachment == attachment; })) {
    die("TRANSFER of a dmabuf whose last one is pending on the same endpoint: use after free");
  }
  Entry entry;
  entry.attachment = attachment;
  entry.length = wanted.length;
  entry.fence = std::make_shared<Fence>();
  entry.fence->writesMemory = writes;
  entry.fence->lockExists = attachment->lock;
  dmabuf->addFence(entry.fence);
  queue_.push_back(std::move(entry));
  moveOut();
  return 0;
}

void Endpoint::submit(const RequestPtr& request) {
  const auto bytes = static_cast<size_t>(request->control.aio_nbytes);
  if (!usb_.bound() || !usb_.enabled()) return kernel_.ended(request, usb_.bound() ? -EAGAIN : -ENODEV);
  if (direction_ == Direction::kIn) {
    const auto* data = reinterpret_cast<const uint8_t*>(static_cast<uintptr_t>(request->control.aio_buf));
    request->data.assign(data, data + bytes);
  }
  Entry entry;
  entry.request = request;
  entry.length = bytes;
  queue_.push_back(std::move(entry));
  moveOut();
}

bool Endpoint::cancel(const iocb* user) {
  const auto found = std::find_if(queue_.begin(), queue_.end(),
                                  [&](const Entry& entry) { return entry.request && entry.request->user == user; });
  if (found == queue_.end()) return false;
  const Entry entry = *found;
  queue_.erase(found);
  end(entry, -ECONNRESET);
  return true;
}

void Endpoint::end(const Entry& entry, long result) {
  if (entry.fence) entry.fence->signal(result < 0 ? static_cast<int>(result) : 1);
  if (entry.request) kernel_.ended(entry.request, result);
}

void Endpoint::failAll(int error) {
  for (const Entry& entry : std::exchange(queue_, {})) end(entry, -error);
  sending_.clear();
}

void Endpoint::released() {
  failAll(ECONNRESET);
  for (const auto& attachment : std::exchange(attachments_, {})) *attachment->lock = false;
}

bool Endpoint::hostTakes() {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  if (queue_.empty()) return false;
  const Entry entry = std::move(queue_.front());
  queue_.pop_front();
  const Bytes bytes = entry.request ? entry.request->data : entry.attachment->dmabuf->load(entry.length);
  taken_.insert(taken_.end(), bytes.begin(), bytes.end());
  end(entry, static_cast<long>(entry.length));
  return true;
}

void Endpoint::hostSends(Bytes transfer) {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  sending_.push_back(std::move(transfer));
  moveOut();
}

/** Packet by packet from the host into what is posted; a short packet ends what it goes into. */
void Endpoint::moveOut() {
  if (direction_ != Direction::kOut) return;
  while (!queue_.empty() && !sending_.empty()) {
    Bytes& transfer = sending_.front();
    Entry& entry = queue_.front();
    const size_t packet = std::min(packetBytes_, transfer.size());
    if (packet > entry.length - entry.filled) die("a packet does not fit into what was posted for it");
    if (entry.request) {
      auto* memory = reinterpret_cast<uint8_t*>(static_cast<uintptr_t>(entry.request->control.aio_buf));
      std::copy_n(transfer.begin(), packet, memory + entry.filled);
    } else {
      entry.attachment->dmabuf->store(entry.filled, transfer.data(), packet);
    }
    entry.filled += packet;
    transfer.erase(transfer.begin(), transfer.begin() + static_cast<ptrdiff_t>(packet));
    if (transfer.empty()) sending_.pop_front();
    if (packet < packetBytes_ || entry.filled == entry.length) {
      const Entry done = std::move(entry);
      queue_.pop_front();
      end(done, static_cast<long>(done.filled));
    }
  }
}

long Ep0::read(void* data, size_t bytes) {
  if (setupPending_) die("read() of ep0 between a control request and its answer: the read answers it");
  if (events_.empty()) return -EAGAIN;
  auto* event = static_cast<uapi::FfsEvent*>(data);
  size_t count = 0;
  for (; count < bytes / sizeof *event && !events_.empty() && !setupPending_; count++) {
    event[count] = {};
    event[count].type = events_.front();
    setupPending_ = events_.front() == kEventSetup;
    events_.pop_front();
  }
  setReadable(event_, false);
  if (!events_.empty()) setReadable(event_, true);
  return static_cast<long>(count * sizeof *event);
}

void Ep0::polled() {
  if (setupPending_) die("poll() of ep0 between a control request and its answer");
}

void Ep0::tell(uint8_t type) {
  events_.push_back(type);
  setReadable(event_, true);
}

void Usb::tell(uint8_t event) {
  if (ep0_) ep0_->tell(event);
}

void Usb::failTransfers() {
  for (const auto& known : endpoints_) {
    if (const auto endpoint = known.lock()) endpoint->failAll(ESHUTDOWN);
  }
}

void Usb::disable() {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  kernel_.note("bus disabled");
  enabled_ = false;
  failTransfers();
  tell(kEventDisable);
}

void Usb::enable() {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  enabled_ = true;
  tell(kEventEnable);
}

void Usb::reset() {
  disable();
  enable();
}

void Usb::unbind() {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  kernel_.note("controller unbound");
  tell(kEventSuspend);
  disable();
  bound_ = false;
  tell(kEventUnbind);
}

void Usb::setup() {
  const std::lock_guard<std::recursive_mutex> guard(kernel_.lock());
  tell(kEventSetup);
}

}  // namespace fake
