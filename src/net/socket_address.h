// Sockets for the back ends that speak to another process.
#pragma once

#include <sys/socket.h>

#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "net/options.h"

namespace limen::net {

/// An address as system calls take it.
struct ResolvedAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  [[nodiscard]] int family() const { return storage.ss_family; }
  [[nodiscard]] bool is_multicast() const;
};

/// `address` is kInet or kUnix; `type` SOCK_STREAM or SOCK_DGRAM. May ask a name server.
Result<ResolvedAddress> resolve(const SocketAddress& address, int type);

/// A descriptor that was handed over by number, non-blocking; `type` becomes its SO_TYPE.
Result<UniqueFd> adopt_socket(const SocketAddress& address, int& type);

/// "127.0.0.1:1234", "/run/socket" or "fd 5", for messages.
[[nodiscard]] std::string to_text(const SocketAddress& address);

}  // namespace limen::net
