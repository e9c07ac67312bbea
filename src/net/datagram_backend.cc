#include "net/datagram_backend.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "net/stream_backend.h"

namespace limen::net {
namespace {

constexpr unsigned kBurst = 64;

}  // namespace

DatagramBackend::DatagramBackend(std::string id, EventLoop& loop)
    : id_(std::move(id)), loop_(loop), buffer_(kMaximumFrame) {}

DatagramBackend::~DatagramBackend() {
  if (socket_.valid()) loop_.unwatch(socket_.get());
  if (!made_path_.empty()) ::unlink(made_path_.c_str());
}

std::string DatagramBackend::describe() const { return description_; }

Result<std::unique_ptr<Port>> create_socket_backend(const DatagramOptions& options,
                                                    const std::string& id, EventLoop& loop) {
  if (!options.local || options.local->kind != SocketAddress::Kind::kFd)
    return DatagramBackend::create(options, id, loop);
  int type = 0;
  auto socket = LIMEN_TRY(adopt_socket(*options.local, type));
  if (type == SOCK_STREAM) return StreamBackend::adopt(std::move(socket), id, loop);
  return DatagramBackend::adopt(std::move(socket), options, id, loop);
}

Result<std::unique_ptr<Port>> DatagramBackend::adopt(UniqueFd socket,
                                                     const DatagramOptions& options,
                                                     const std::string& id, EventLoop& loop) {
  std::unique_ptr<DatagramBackend> backend(new DatagramBackend(id, loop));
  if (options.remote) backend->remote_ = LIMEN_TRY(resolve(*options.remote, SOCK_DGRAM));
  backend->description_ = fmt::format("dgram: fd {}", socket.get());
  LIMEN_TRY(backend->attach(std::move(socket)));
  return backend;
}

Result<std::unique_ptr<Port>> DatagramBackend::create(const DatagramOptions& options,
                                                      const std::string& id, EventLoop& loop) {
  std::unique_ptr<DatagramBackend> backend(new DatagramBackend(id, loop));
  if (options.remote) backend->remote_ = LIMEN_TRY(resolve(*options.remote, SOCK_DGRAM));
  if (backend->remote_ && backend->remote_->is_multicast())
    LIMEN_TRY(backend->join(*backend->remote_, options));
  else
    LIMEN_TRY(backend->bind(options));
  backend->description_ =
      fmt::format("dgram: {} to {}", options.local ? to_text(*options.local) : "any",
                  options.remote ? to_text(*options.remote) : "anyone");
  return backend;
}

Result<> DatagramBackend::bind(const DatagramOptions& options) {
  const auto local = LIMEN_TRY(resolve(*options.local, SOCK_DGRAM));
  UniqueFd fd(::socket(local.family(), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno(errno, "can't create datagram socket");
  if (local.family() == AF_UNIX) {
    if (!options.local->path.starts_with('\0')) {
      // QEMU replaces what is there; nothing else can be told from a socket that is left over.
      if (::unlink(options.local->path.c_str()) != 0 && errno != ENOENT)
        return fail_errno(errno, fmt::format("failed to unlink socket {}", options.local->path));
      made_path_ = options.local->path;
    }
  } else {
    const int one = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  }
  if (::bind(fd.get(), local.get(), local.size) != 0)
    return fail_errno(errno, fmt::format("can't bind {} to socket", to_text(*options.local)));
  return attach(std::move(fd));
}

Result<> DatagramBackend::join(const ResolvedAddress& group, const DatagramOptions& options) {
  UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno(errno, "can't create datagram socket");
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(fd.get(), group.get(), group.size) != 0)
    return fail_errno(errno, fmt::format("can't bind {} to socket", to_text(*options.remote)));
  sockaddr_in address{};
  std::memcpy(&address, group.get(), sizeof address);
  ip_mreq membership{};
  membership.imr_multiaddr = address.sin_addr;
  if (options.local) {
    sockaddr_in local{};
    const auto resolved = LIMEN_TRY(resolve(*options.local, SOCK_DGRAM));
    std::memcpy(&local, resolved.get(), sizeof local);
    membership.imr_interface = local.sin_addr;
    if (::setsockopt(fd.get(), IPPROTO_IP, IP_MULTICAST_IF, &local.sin_addr,
                     sizeof local.sin_addr) != 0)
      return fail_errno(errno, "can't set the default network send interface");
  }
  if (::setsockopt(fd.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership) != 0)
    return fail_errno(
        errno, fmt::format("can't add socket to multicast group {}", to_text(*options.remote)));
  // Machines on this host hear each other.
  ::setsockopt(fd.get(), IPPROTO_IP, IP_MULTICAST_LOOP, &one, sizeof one);
  return attach(std::move(fd));
}

Result<> DatagramBackend::attach(UniqueFd socket) {
  // Room for frames that come while the guest does not look.
  const int bytes = 1 << 20;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  socket_ = std::move(socket);
  return loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t events) {
    if ((events & EPOLLOUT) != 0 && write_blocked_) {
      write_blocked_ = false;
      update_watch();
      ready();
    }
    if ((events & (EPOLLIN | EPOLLERR)) != 0) read_frames();
  });
}

void DatagramBackend::update_watch() {
  const uint32_t events =
      (read_blocked_ ? 0u : uint32_t{EPOLLIN}) | (write_blocked_ ? uint32_t{EPOLLOUT} : 0u);
  [[maybe_unused]] const auto changed = loop_.change(socket_.get(), events);
}

Delivery DatagramBackend::receive(const Frame& frame, unsigned) {
  std::vector<iovec> parts(frame.parts.begin(), frame.parts.end());
  msghdr message{};
  if (remote_) {
    message.msg_name = &remote_->storage;
    message.msg_namelen = remote_->size;
  }
  message.msg_iov = parts.data();
  message.msg_iovlen = std::min<size_t>(parts.size(), IOV_MAX);
  while (::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno == EINTR) continue;
    // Anything else than a full buffer (nobody listens, too long a datagram): lost, as on a wire.
    if (errno != EAGAIN) break;
    write_blocked_ = true;
    update_watch();
    return Delivery::kFull;
  }
  return Delivery::kTaken;
}

bool DatagramBackend::deliver() {
  if (waiting_ != 0) {
    const iovec part{buffer_.data(), waiting_};
    if (send({.parts = {&part, 1}, .bytes = waiting_, .offload = {}}) == Delivery::kFull)
      return false;
  }
  waiting_ = 0;
  return true;
}

void DatagramBackend::read_frames() {
  bool blocked = !deliver();
  for (unsigned i = 0; i < kBurst && !blocked; ++i) {
    const ssize_t got = ::recv(socket_.get(), buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == ECONNREFUSED)) continue;
    if (got < 0) break;
    waiting_ = static_cast<size_t>(got);
    blocked = !deliver();
  }
  end_burst();
  if (blocked != read_blocked_) {
    read_blocked_ = blocked;
    update_watch();
  }
}

void DatagramBackend::peer_ready() {
  if (read_blocked_) read_frames();
}

}  // namespace limen::net
