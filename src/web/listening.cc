#include "web/listening.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "device/character/socket_address.h"

namespace limen::web {

Result<Place> listen_for_browsers(const machine::WebDescription& description) {
  auto listening = device::listen_on({.kind = device::SocketAddress::Kind::kInet,
                                      .host = description.host,
                                      .port = std::to_string(description.first_port),
                                      .last_port = description.first_port == description.last_port
                                                       ? uint16_t{0}
                                                       : description.last_port});
  if (!listening) {
    const auto ports =
        description.first_port == description.last_port
            ? fmt::format("port {}", description.first_port)
            : fmt::format("ports {} to {}", description.first_port, description.last_port);
    return fail("{} of {}: {}", ports, description.host, listening.error().message);
  }
  // More than one may knock at a time.
  constexpr int kBacklog = 32;
  ::listen(listening->get(), kBacklog);
  auto name = device::socket_name(listening->get(), false);
  return Place{*std::move(listening), std::move(name)};
}

unsigned Place::port() const {
  return static_cast<unsigned>(std::stoul(name.substr(name.rfind(':') + 1)));
}

std::string Place::reachable() const {
  if (!name.starts_with("0.0.0.0:") && !name.starts_with("[::]:")) return name;
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) return name;
  return fmt::format("{}:{}", host.data(), port());
}

bool Place::is_loopback() const {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  if (address.ss_family == AF_INET) {
    const auto* const inet = reinterpret_cast<const sockaddr_in*>(&address);
    return ntohl(inet->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
  }
  const auto* const inet6 = reinterpret_cast<const sockaddr_in6*>(&address);
  return address.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&inet6->sin6_addr);
}

}  // namespace limen::web
