#include "tcp_listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>

namespace iio_bridge {
namespace {

constexpr int kBacklog = 64;

// As iiod does: a peer that has vanished is noticed after 70 s.
constexpr int kKeepAliveIdleSeconds = 10;
constexpr int kKeepAliveIntervalSeconds = 10;
constexpr int kKeepAliveProbes = 6;

int set(const UniqueFd& socket, int level, int option, int value) {
  return ::setsockopt(socket.get(), level, option, &value, sizeof value) == 0 ? 0 : -errno;
}

void configure(const UniqueFd& socket) {
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  set(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  set(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
}

std::string textOf(const sockaddr_storage& address, socklen_t length) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  const auto* general = reinterpret_cast<const sockaddr*>(&address);
  if (::getnameinfo(general, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  const std::string bracketed = address.ss_family == AF_INET6 ? "[" + std::string(host) + "]" : std::string(host);
  return bracketed + ":" + port;
}

}  // namespace

int TcpListener::open(const std::string& address, uint16_t port, UniqueFd& socket) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return -EINVAL;
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, ::freeaddrinfo);
  socket.reset(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return -errno;
  int error = set(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  if (error == 0 && found->ai_family == AF_INET6) error = set(socket, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  if (error == 0 && ::bind(socket.get(), found->ai_addr, found->ai_addrlen) != 0) error = -errno;
  if (error == 0 && ::listen(socket.get(), kBacklog) != 0) error = -errno;
  return error;
}

uint16_t TcpListener::portOf(const UniqueFd& socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  const uint16_t port = address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                                                      : reinterpret_cast<const sockaddr_in*>(&address)->sin_port;
  return ntohs(port);
}

TcpListener::~TcpListener() {
  if (accepted_) accepted_(-EBADF, UniqueFd(), {});
}

void TcpListener::accept(Accepted accepted) { accepted_ = std::move(accepted); }

void TcpListener::collect(Poller& poller) {
  if (accepted_) poller.add(socket_.get(), POLLIN, *this);
}

void TcpListener::onReady(int) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  UniqueFd socket(
      ::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&address), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) {
    // The client may have gone between poll() and here.
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    return std::exchange(accepted_, nullptr)(-errno, UniqueFd(), {});
  }
  configure(socket);
  std::exchange(accepted_, nullptr)(0, std::move(socket), textOf(address, length));
}

}  // namespace iio_bridge
