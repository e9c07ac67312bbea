#include "device/character/datagram_backend.h"

#include <netdb.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace limen::device {
namespace {

constexpr size_t kMostBytes = 65507;  // of an IPv4 datagram

using AddressList = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Result<AddressList> resolve(const SocketAddress& address, int family, bool passive) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = passive ? AI_PASSIVE : 0;
  hints.ai_family = family;
  addrinfo* found = nullptr;
  const std::string host = address.host.empty() && !passive ? "localhost" : address.host;
  const std::string port = address.port.empty() ? "0" : address.port;
  const int error =
      ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found);
  if (error != 0)
    return fail("address resolution failed for {}:{}: {}", address.host, address.port,
                ::gai_strerror(error));
  return AddressList(found, &::freeaddrinfo);
}

}  // namespace

Result<std::unique_ptr<DatagramBackend>> DatagramBackend::create(EventLoop& loop,
                                                                 const SocketAddress& remote,
                                                                 const SocketAddress& local) {
  if (remote.port.empty() || remote.port == "0") return fail("remote port not specified");
  const int family = remote.ipv4 == remote.ipv6 ? AF_UNSPEC : remote.ipv4 ? AF_INET : AF_INET6;
  const auto peers = LIMEN_TRY(resolve(remote, family, false));
  const auto own = LIMEN_TRY(resolve(local, peers->ai_family, true));
  UniqueFd socket(
      ::socket(peers->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP));
  if (!socket.valid()) return fail_errno(errno, "Failed to create socket");
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.get(), own->ai_addr, own->ai_addrlen) != 0)
    return fail_errno(errno, fmt::format("Failed to bind socket to {}:{}", local.host, local.port));
  if (::connect(socket.get(), peers->ai_addr, peers->ai_addrlen) != 0)
    return fail_errno(errno, fmt::format("Failed to connect to '{}:{}'", remote.host, remote.port));
  return std::unique_ptr<DatagramBackend>(new DatagramBackend(loop, std::move(socket)));
}

DatagramBackend::~DatagramBackend() {
  if (watched_) loop_.unwatch(socket_.get());
}

void DatagramBackend::write(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const size_t size = std::min(bytes.size(), kMostBytes);
    // An error is that of an earlier datagram that nobody wanted, or no room: lost either way.
    static_cast<void>(::send(socket_.get(), bytes.data(), size, MSG_DONTWAIT | MSG_NOSIGNAL));
    bytes = bytes.subspan(size);
  }
}

void DatagramBackend::accept_input() {
  loop_.post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) deliver();
  });
}

void DatagramBackend::deliver() {
  const auto alive = std::weak_ptr<bool>(alive_);
  for (;;) {
    const size_t room = can_receive_ && receive_ ? can_receive_() : 0;
    const bool wanted = room != 0;
    if (wanted != watched_) {
      if (watched_)
        loop_.unwatch(socket_.get());
      else if (!loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { deliver(); }))
        return;
      watched_ = wanted;
    }
    if (!wanted) return;
    if (input_.empty()) {
      input_.resize(kMostBytes);
      const ssize_t count = ::recv(socket_.get(), input_.data(), input_.size(), MSG_DONTWAIT);
      input_.resize(static_cast<size_t>(std::max<ssize_t>(count, 0)));
      if (input_.empty()) return;
    }
    const size_t size = std::min(room, input_.size());
    const std::vector<uint8_t> some(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(size));
    input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(size));
    receive_(some);
    if (alive.expired()) return;
  }
}

}  // namespace limen::device
