// Where a stream socket listens or leads to: a path or a TCP port.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::device {

struct SocketAddress {
  enum class Kind : uint8_t { kUnix, kInet, kDescriptor } kind = Kind::kUnix;
  std::string path = {};   ///< kUnix.
  bool abstract = false;   ///< kUnix: a name in Linux's abstract namespace,
  bool tight = true;       ///< of exactly that length.
  std::string host = {};   ///< kInet; "": any address, or localhost.
  std::string port = {};   ///< kInet: number or service.
  uint16_t last_port = 0;  ///< kInet, listening: the first free from `port` to this; 0: just it.
  bool ipv4 = false;       ///< kInet: only the families that are true; neither: both.
  bool ipv6 = false;
  bool no_delay = true;
  int descriptor = -1;  ///< kDescriptor: a socket of the caller's.
};

/// "unix:/path" or "tcp:host:port", as QEMU writes them; `protocol`: "tcp" or "telnet".
[[nodiscard]] std::string describe(const SocketAddress& address, const std::string& protocol);
/// The address of a socket's own end or (`peer`) of the other one: "127.0.0.1:4444".
[[nodiscard]] std::string socket_name(int fd, bool peer);

/// A listening, non-blocking socket. A path that is there already is unlinked first, as in QEMU.
Result<UniqueFd> listen_on(const SocketAddress& address);
/// A connected, non-blocking socket.
Result<UniqueFd> connect_to(const SocketAddress& address);

}  // namespace limen::device
