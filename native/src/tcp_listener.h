#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "poller.h"
#include "unique_fd.h"

namespace iio_bridge {

/**
 * Owns a listening TCP socket. Connections are accepted one by one, when they are asked for: who comes in between waits
 * in the kernel's backlog.
 */
class TcpListener : private PollClient {
 public:
  /** Hears the socket, non-blocking, and its peer as text; or a negative errno. */
  using Accepted = std::function<void(int status, UniqueFd socket, std::string peer)>;

  /** `address` is numeric, IPv4 or IPv6; `::` takes IPv4 as well. `port` 0 is any. 0 or a negative errno. */
  static int open(const std::string& address, uint16_t port, UniqueFd& socket);
  /** The port that it is bound to. */
  static uint16_t portOf(const UniqueFd& socket);

  explicit TcpListener(UniqueFd socket) : socket_(std::move(socket)) {}
  /** Who still waits hears -EBADF. */
  ~TcpListener();

  /** The next connection; once per Accepted. */
  void accept(Accepted accepted);
  void collect(Poller& poller);

 private:
  void onReady(int fd) override;

  UniqueFd socket_;
  Accepted accepted_;
};

}  // namespace iio_bridge
