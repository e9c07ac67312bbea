#include "device/character/socket_backend.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/log.h"

namespace limen::device {

SocketBackend::SocketBackend(EventLoop& loop, Options options)
    : StreamBackend(loop),
      options_(std::move(options)),
      retry_(loop, [this] { try_to_connect(); }) {}

Result<std::unique_ptr<SocketBackend>> SocketBackend::create(EventLoop& loop, Options options) {
  std::unique_ptr<SocketBackend> backend(new SocketBackend(loop, std::move(options)));
  LIMEN_TRY(backend->open());
  return backend;
}

Result<> SocketBackend::open() {
  if (options_.server) {
    listener_ = LIMEN_TRY(listen_on(options_.address));
    if (options_.wait) return wait_for_client();
    watch_listener(true);
    return {};
  }
  auto fd = connect_to(options_.address);
  if (fd) return attach(std::move(*fd));
  if (options_.reconnect.count() == 0) return std::unexpected(std::move(fd).error());
  log::warning("Unable to connect character device: {}", fd.error().message);
  retry_.arm(Clock::now() + options_.reconnect);
  return {};
}

SocketBackend::~SocketBackend() {
  watch_listener(false);
  if (listener_.valid() && options_.address.kind == SocketAddress::Kind::kUnix &&
      !options_.address.abstract)
    ::unlink(options_.address.path.c_str());
}

std::string SocketBackend::filename() const {
  const std::string protocol = options_.telnet ? "telnet" : "tcp";
  const std::string server = options_.server ? ",server=on" : "";
  if (!peer_present()) return "disconnected:" + describe(options_.address, protocol) + server;
  if (options_.address.kind == SocketAddress::Kind::kInet)
    return fmt::format("{}:{}{} <-> {}", protocol, own_name_, server, peer_name_);
  return describe(options_.address, protocol) + server;
}

Result<> SocketBackend::wait_for_client() {
  log::write(log::Level::kWarning, "waiting for connection on: " + filename());
  pollfd poll{.fd = listener_.get(), .events = POLLIN, .revents = 0};
  while (!peer_present()) {
    if (::poll(&poll, 1, -1) < 0 && errno != EINTR)
      return fail_errno(errno, "waiting for a client");
    client_waits();
  }
  return {};
}

void SocketBackend::watch_listener(bool wanted) {
  if (wanted == listener_watched_ || !listener_.valid()) return;
  if (wanted)
    listener_watched_ =
        loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { client_waits(); }).has_value();
  else
    loop_.unwatch(listener_.get());
  listener_watched_ = wanted && listener_watched_;
}

void SocketBackend::client_waits() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) return;  // it has gone again
  const int on = 1;
  if (options_.address.no_delay && options_.address.kind == SocketAddress::Kind::kInet)
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (auto attached = attach(std::move(fd)); !attached)
    log::warning("{}: {}", filename(), attached.error().message);
}

Result<> SocketBackend::attach(UniqueFd fd) {
  UniqueFd output(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!output.valid()) return fail_errno(errno, "duplicating a socket");
  own_name_ = socket_name(fd.get(), false);
  peer_name_ = socket_name(fd.get(), true);
  watch_listener(false);
  return connect_peer(std::move(fd), std::move(output), options_.telnet);
}

void SocketBackend::peer_gone() {
  if (options_.server)
    watch_listener(true);
  else if (options_.reconnect.count() != 0)
    retry_.arm(Clock::now() + options_.reconnect);
}

void SocketBackend::try_to_connect() {
  auto fd = connect_to(options_.address);
  if (fd && attach(std::move(*fd))) return;
  retry_.arm(Clock::now() + options_.reconnect);
}

}  // namespace limen::device
