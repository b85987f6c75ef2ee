#pragma once

#include <poll.h>

#include <cstddef>
#include <vector>

namespace iio_bridge {

class PollClient {
 public:
  virtual void onReady(int fd) = 0;

 protected:
  ~PollClient() = default;
};

/**
 * The descriptors that one turn of the data plane's loop waits for. It is built anew each turn from the heads of the
 * queues: a fence lives for one block, so registering it with epoll would cost two system calls per block that this
 * does not.
 */
class Poller {
 public:
  void clear() {
    fds_.clear();
    clients_.clear();
  }
  void add(int fd, short events, PollClient& client) {
    fds_.push_back({fd, events, 0});
    clients_.push_back(&client);
  }
  /** Waits and hands every ready descriptor to its client, in the order in which they were added. */
  void wait(int timeoutMs) {
    if (::poll(fds_.data(), fds_.size(), timeoutMs) <= 0) return;
    for (size_t i = 0; i < fds_.size(); i++) {
      if (fds_[i].revents != 0) clients_[i]->onReady(fds_[i].fd);
    }
  }

 private:
  std::vector<pollfd> fds_;
  std::vector<PollClient*> clients_;
};

}  // namespace iio_bridge
