#include "net/socket_address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace limen::net {

bool ResolvedAddress::is_multicast() const {
  if (family() != AF_INET) return false;
  sockaddr_in address{};
  std::memcpy(&address, &storage, sizeof address);
  return IN_MULTICAST(ntohl(address.sin_addr.s_addr));
}

Result<ResolvedAddress> resolve(const SocketAddress& address, int type) {
  ResolvedAddress resolved;
  if (address.kind == SocketAddress::Kind::kUnix) {
    sockaddr_un path{};
    path.sun_family = AF_UNIX;
    if (address.path.empty() || address.path.size() >= sizeof path.sun_path)
      return fail("UNIX socket path '{}' is too long: it has at most {} characters", address.path,
                  sizeof path.sun_path - 1);
    std::memcpy(path.sun_path, address.path.data(), address.path.size());
    std::memcpy(&resolved.storage, &path, sizeof path);
    // One that begins with a zero byte is abstract, and ends with its length.
    resolved.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.path.size() +
                                           (address.path[0] != '\0' ? 1 : 0));
    return resolved;
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = type;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                                  address.port.c_str(), &hints, &found);
  if (error != 0)
    return fail("address resolution failed for {}:{}: {}", address.host, address.port,
                ::gai_strerror(error));
  std::memcpy(&resolved.storage, found->ai_addr, found->ai_addrlen);
  resolved.size = found->ai_addrlen;
  ::freeaddrinfo(found);
  return resolved;
}

Result<UniqueFd> adopt_socket(const SocketAddress& address, int& type) {
  int number = -1;
  const char* end = address.path.data() + address.path.size();
  const auto [at, error] = std::from_chars(address.path.data(), end, number);
  if (error != std::errc() || at != end || number < 0)
    return fail("'{}' is not the number of a file descriptor", address.path);
  socklen_t size = sizeof type;
  if (::getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
    return fail_errno(errno, fmt::format("fd={} is not a socket", number));
  if (type != SOCK_STREAM && type != SOCK_DGRAM)
    return fail("socket type={} for fd={} must be either SOCK_DGRAM or SOCK_STREAM", type, number);
  ::fcntl(number, F_SETFL, ::fcntl(number, F_GETFL) | O_NONBLOCK);
  ::fcntl(number, F_SETFD, FD_CLOEXEC);
  return UniqueFd(number);
}

std::string to_text(const SocketAddress& address) {
  switch (address.kind) {
    case SocketAddress::Kind::kInet:
      return fmt::format("{}:{}", address.host, address.port);
    case SocketAddress::Kind::kUnix:
      return address.path.starts_with('\0') ? "@" + address.path.substr(1) : address.path;
    case SocketAddress::Kind::kFd:
      return fmt::format("fd {}", address.path);
  }
  return {};
}

}  // namespace limen::net
