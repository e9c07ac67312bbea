#include "device/character/socket_address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>

namespace limen::device {
namespace {

struct UnixAddress {
  sockaddr_un address{};
  socklen_t size = 0;
};

Result<UnixAddress> unix_address(const SocketAddress& from) {
  UnixAddress to;
  to.address.sun_family = AF_UNIX;
  const size_t lead = from.abstract ? 1 : 0;
  if (from.path.empty()) return fail("the path of a socket is missing");
  if (from.path.size() + 1 > sizeof to.address.sun_path)
    return fail("UNIX socket path '{}' is too long; it must be less than {} bytes", from.path,
                sizeof to.address.sun_path);
  std::memcpy(&to.address.sun_path[lead], from.path.data(), from.path.size());
  to.size = static_cast<socklen_t>(from.abstract && from.tight
                                       ? offsetof(sockaddr_un, sun_path) + lead + from.path.size()
                                       : sizeof to.address);
  return to;
}

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> resolve(const SocketAddress& address, const std::string& port, bool passive) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG | (passive ? AI_PASSIVE : 0);
  hints.ai_family = address.ipv4 == address.ipv6 ? AF_UNSPEC : address.ipv4 ? AF_INET : AF_INET6;
  addrinfo* found = nullptr;
  const char* host =
      address.host.empty() ? (passive ? nullptr : "localhost") : address.host.c_str();
  // An address that is none of this host's network's (127.0.0.1 without a network) counts, too.
  int error = ::getaddrinfo(host, port.c_str(), &hints, &found);
  if (error != 0) {
    hints.ai_flags &= ~AI_ADDRCONFIG;
    error = ::getaddrinfo(host, port.c_str(), &hints, &found);
  }
  if (error != 0)
    return fail("address resolution failed for {}:{}: {}", address.host, port,
                ::gai_strerror(error));
  return AddressList(found, &::freeaddrinfo);
}

UniqueFd new_socket(int family) {
  return UniqueFd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

Result<UniqueFd> listen_unix(const SocketAddress& address) {
  const auto where = LIMEN_TRY(unix_address(address));
  UniqueFd fd = new_socket(AF_UNIX);
  if (!fd.valid()) return fail_errno(errno, "Failed to create Unix socket");
  if (!address.abstract && ::unlink(address.path.c_str()) != 0 && errno != ENOENT)
    return fail_errno(errno, fmt::format("Failed to unlink socket {}", address.path));
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&where.address), where.size) != 0)
    return fail_errno(errno, fmt::format("Failed to bind socket to {}", address.path));
  if (::listen(fd.get(), 1) != 0) return fail_errno(errno, "Failed to listen on socket");
  return fd;
}

Result<UniqueFd> listen_port(const SocketAddress& address, const std::string& port) {
  const auto list = LIMEN_TRY(resolve(address, port, true));
  int error = 0;
  for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    UniqueFd fd = new_socket(each->ai_family);
    if (!fd.valid()) {
      error = errno;
      continue;
    }
    const int on = 1;
    const int off = 0;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    // An IPv6 socket for every address takes IPv4, too.
    if (each->ai_family == AF_INET6 && address.ipv4 == address.ipv6)
      ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (::bind(fd.get(), each->ai_addr, each->ai_addrlen) == 0 && ::listen(fd.get(), 1) == 0)
      return fd;
    error = errno;
  }
  return fail_errno(error, "Failed to find an available port");
}

Result<UniqueFd> listen_inet(const SocketAddress& address) {
  unsigned first = 0;
  const auto [end, error] =
      std::from_chars(address.port.data(), address.port.data() + address.port.size(), first);
  if (address.last_port == 0 || error != std::errc() ||
      end != address.port.data() + address.port.size())
    return listen_port(address, address.port);
  Result<UniqueFd> outcome = fail("port range {} to {} is empty", first, address.last_port);
  for (unsigned port = first; port <= address.last_port; ++port) {
    outcome = listen_port(address, std::to_string(port));
    if (outcome) break;
  }
  return outcome;
}

/// Blocking until here: a connection that was asked for at the start is there or an error.
int make_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ? errno : 0;
}

Result<UniqueFd> connect_inet(const SocketAddress& address) {
  const auto list = LIMEN_TRY(resolve(address, address.port, false));
  int error = 0;
  for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    UniqueFd fd(::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) {
      error = errno;
      continue;
    }
    // A host that does not answer must not hold the machine for minutes.
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (::connect(fd.get(), each->ai_addr, each->ai_addrlen) == 0) {
      error = make_nonblocking(fd.get());
      if (error == 0) return fd;
    } else {
      error = errno == EINPROGRESS ? ETIMEDOUT : errno;
    }
  }
  return fail_errno(error, fmt::format("Failed to connect to '{}:{}'", address.host, address.port));
}

Result<UniqueFd> connect_unix(const SocketAddress& address) {
  const auto where = LIMEN_TRY(unix_address(address));
  UniqueFd fd = new_socket(AF_UNIX);
  if (!fd.valid()) return fail_errno(errno, "Failed to create Unix socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&where.address), where.size) != 0)
    return fail_errno(errno, fmt::format("Failed to connect to '{}'", address.path));
  return fd;
}

/// A descriptor that was handed over: a stream socket that listens, or that does not.
Result<UniqueFd> adopt(int descriptor, bool listening) {
  int is_listening = 0;
  socklen_t size = sizeof is_listening;
  if (::getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) != 0)
    return fail("File descriptor '{}' is not a socket", descriptor);
  if (listening && is_listening == 0 && ::listen(descriptor, 1) != 0)
    return fail_errno(errno, fmt::format("Failed to listen on socket {}", descriptor));
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0 || ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) != 0)
    return fail_errno(errno, fmt::format("file descriptor {}", descriptor));
  return UniqueFd(descriptor);
}

}  // namespace

std::string describe(const SocketAddress& address, const std::string& protocol) {
  switch (address.kind) {
    case SocketAddress::Kind::kUnix:
      return fmt::format("unix:{}{}", address.path,
                         address.abstract
                             ? (address.tight ? ",abstract=on,tight=on" : ",abstract=on,tight=off")
                             : "");
    case SocketAddress::Kind::kInet:
      return fmt::format(
          "{}:{}:{}", protocol,
          address.host.find(':') == std::string::npos ? address.host : "[" + address.host + "]",
          address.port);
    case SocketAddress::Kind::kDescriptor:
      break;
  }
  return fmt::format("fd:{}", address.descriptor);
}

std::string socket_name(int fd, bool peer) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if ((peer ? ::getpeername(fd, address, &size) : ::getsockname(fd, address, &size)) != 0)
    return {};
  if (storage.ss_family == AF_UNIX) {
    const auto* local = reinterpret_cast<const sockaddr_un*>(&storage);
    return size > offsetof(sockaddr_un, sun_path) ? std::string(local->sun_path) : std::string();
  }
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  if (::getnameinfo(address, size, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return {};
  return storage.ss_family == AF_INET6 ? fmt::format("[{}]:{}", host.data(), port.data())
                                       : fmt::format("{}:{}", host.data(), port.data());
}

Result<UniqueFd> listen_on(const SocketAddress& address) {
  switch (address.kind) {
    case SocketAddress::Kind::kUnix:
      return listen_unix(address);
    case SocketAddress::Kind::kInet:
      return listen_inet(address);
    case SocketAddress::Kind::kDescriptor:
      break;
  }
  return adopt(address.descriptor, true);
}

Result<UniqueFd> connect_to(const SocketAddress& address) {
  UniqueFd fd;
  switch (address.kind) {
    case SocketAddress::Kind::kUnix:
      return connect_unix(address);
    case SocketAddress::Kind::kInet: {
      fd = LIMEN_TRY(connect_inet(address));
      const int on = 1;
      if (address.no_delay) ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return fd;
    }
    case SocketAddress::Kind::kDescriptor:
      break;
  }
  return adopt(address.descriptor, false);
}

}  // namespace limen::device
