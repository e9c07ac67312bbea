#include "gdb/listener.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/nearest.h"

namespace limen::gdb {
namespace {

/// What may stand behind the address: it changes nothing, since a debugger's socket always listens
/// and never keeps the machine waiting.
Result<> check_options(std::string_view options) {
  constexpr std::array<std::string_view, 10> kKnown = {
      "server",     "nowait",      "server=on", "wait=off", "nodelay",
      "nodelay=on", "nodelay=off", "ipv4",      "ipv4=on",  "ipv6=off"};
  while (!options.empty()) {
    const size_t comma = options.find(',');
    const auto option = options.substr(0, comma);
    if (std::ranges::find(kKnown, option) == kKnown.end())
      return fail("unknown option '{}'{}", option, choice_hint(option, kKnown));
    if (comma == std::string_view::npos) break;
    options.remove_prefix(comma + 1);
  }
  return {};
}

Result<ListenAddress> parse_tcp(std::string_view place) {
  const size_t colon = place.rfind(':');
  if (colon == std::string_view::npos)
    return fail("'tcp:{}' has no port; write tcp:[HOST]:PORT", place);
  ListenAddress address{.kind = ListenAddress::Kind::kTcp};
  std::string_view host = place.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  address.host = host;
  address.port = place.substr(colon + 1);
  const bool digits =
      !address.port.empty() && address.port.size() <= 5 &&
      std::ranges::all_of(address.port, [](char c) { return c >= '0' && c <= '9'; });
  constexpr int kMostPort = 65535;
  if (!digits || std::stoi(address.port) > kMostPort)
    return fail("port '{}' is not a number from 0 to {}", address.port, kMostPort);
  return address;
}

Result<UniqueFd> listen_unix(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof name.sun_path)
    return fail("'{}' is not the path of a socket: 1 to {} bytes", path, sizeof name.sun_path - 1);
  std::ranges::copy(path, name.sun_path);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return fail_errno(errno, "cannot make a socket");
  ::unlink(path.c_str());  // of an earlier run, as QEMU does it
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0 ||
      ::listen(socket.get(), 1) != 0)
    return fail_errno(errno, fmt::format("cannot listen at unix:{}", path));
  return socket;
}

Result<UniqueFd> listen_tcp(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  // Everywhere: one IPv4 socket, as a debugger on this machine connects.
  hints.ai_family = address.host.empty() ? AF_INET : AF_UNSPEC;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                                  address.port.c_str(), &hints, &found);
  if (error != 0)
    return fail("address resolution failed for {}:{}: {}", address.host, address.port,
                ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all(found, &::freeaddrinfo);
  int last_error = EADDRNOTAVAIL;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    UniqueFd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int on = 1;
    if (socket.valid() &&
        ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        ::bind(socket.get(), one->ai_addr, one->ai_addrlen) == 0 && ::listen(socket.get(), 1) == 0)
      return socket;
    last_error = errno;
  }
  return fail_errno(last_error, fmt::format("Failed to find an available port at tcp:{}:{}",
                                            address.host, address.port));
}

}  // namespace

Result<ListenAddress> parse_listen_address(std::string_view text) {
  if (text == "none") return ListenAddress{};
  const size_t comma = text.find(',');
  const std::string_view place = text.substr(0, comma);
  if (comma != std::string_view::npos) LIMEN_TRY(check_options(text.substr(comma + 1)));
  if (place == "stdio") return ListenAddress{.kind = ListenAddress::Kind::kStdio};
  if (place.starts_with("tcp:")) return parse_tcp(place.substr(4));
  if (place.starts_with("unix:"))
    return ListenAddress{.kind = ListenAddress::Kind::kUnix, .path = std::string(place.substr(5))};
  return fail("'{}' is no place for a debugger; write tcp::1234, unix:PATH, stdio or none", text);
}

Result<UniqueFd> listen_at(const ListenAddress& address) {
  if (address.kind == ListenAddress::Kind::kUnix) return listen_unix(address.path);
  return listen_tcp(address);
}

}  // namespace limen::gdb
