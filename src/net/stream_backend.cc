#include "net/stream_backend.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/log.h"
#include "net/checksum.h"
#include "net/socket_address.h"

namespace limen::net {
namespace {

constexpr size_t kLengthBytes = 4, kInputBytes = 4 * kMaximumFrame;

}  // namespace

StreamBackend::StreamBackend(const StreamOptions& options, std::string id, EventLoop& loop)
    : options_(options),
      id_(std::move(id)),
      loop_(loop),
      reconnect_(loop,
                 [this] {
                   if (auto connected = connect(); !connected) {
                     log::debug("{}: {}", id_, connected.error().message);
                     reconnect_.arm(loop_.now() + std::chrono::seconds(options_.reconnect_seconds));
                   }
                 }),
      input_(kInputBytes) {}

Result<std::unique_ptr<Port>> StreamBackend::create(const StreamOptions& options,
                                                    const std::string& id, EventLoop& loop) {
  if (options.address.kind == SocketAddress::Kind::kFd) {
    int type = 0;
    auto socket = LIMEN_TRY(adopt_socket(options.address, type));
    if (type != SOCK_STREAM) return fail("fd={} is not a stream socket", options.address.path);
    return adopt(std::move(socket), id, loop);
  }
  std::unique_ptr<StreamBackend> backend(new StreamBackend(options, id, loop));
  if (options.server) {
    LIMEN_TRY(backend->listen());
  } else if (auto connected = backend->connect(); !connected) {
    if (options.reconnect_seconds == 0) return std::unexpected(std::move(connected).error());
    backend->lose(connected.error().message);
  }
  return backend;
}

Result<std::unique_ptr<Port>> StreamBackend::adopt(UniqueFd socket, const std::string& id,
                                                   EventLoop& loop) {
  StreamOptions options;
  options.address = {.kind = SocketAddress::Kind::kFd, .path = std::to_string(socket.get())};
  std::unique_ptr<StreamBackend> backend(new StreamBackend(options, id, loop));
  LIMEN_TRY(backend->attach(std::move(socket)));
  return backend;
}

StreamBackend::~StreamBackend() {
  if (socket_.valid()) loop_.unwatch(socket_.get());
  if (listener_.valid()) loop_.unwatch(listener_.get());
  if (!made_path_.empty()) ::unlink(made_path_.c_str());
}

std::string StreamBackend::describe() const {
  return fmt::format("stream: {} {}{}", options_.server ? "listening on" : "connected to",
                     to_text(options_.address), socket_.valid() ? "" : " (no peer yet)");
}

Result<> StreamBackend::listen() {
  const auto address = LIMEN_TRY(resolve(options_.address, SOCK_STREAM));
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno(errno, "can't create stream socket");
  const int one = 1;
  if (address.family() == AF_UNIX) {
    // One that is left over; not one that is in use.
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(probe.get(), address.get(), address.size) != 0 && errno == ECONNREFUSED)
      ::unlink(options_.address.path.c_str());
  } else {
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  }
  if (::bind(fd.get(), address.get(), address.size) != 0)
    return fail_errno(errno, fmt::format("can't bind ip={} to socket", to_text(options_.address)));
  if (address.family() == AF_UNIX && !options_.address.path.starts_with('\0'))
    made_path_ = options_.address.path;
  if (::listen(fd.get(), 1) != 0) return fail_errno(errno, "can't listen on socket");
  listener_ = std::move(fd);
  return loop_.watch(listener_.get(), EPOLLIN, [this](uint32_t) { accept(); });
}

void StreamBackend::accept() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) return;
  if (auto attached = attach(std::move(fd)); !attached) {
    log::warning("{}: {}", id_, attached.error().message);
    return;
  }
  // One peer at a time: others wait.
  [[maybe_unused]] const auto changed = loop_.change(listener_.get(), 0);
}

Result<> StreamBackend::connect() {
  const auto address = LIMEN_TRY(resolve(options_.address, SOCK_STREAM));
  UniqueFd fd(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail_errno(errno, "can't create stream socket");
  // A peer that does not answer holds the network up for seconds, not minutes.
  const timeval limit{.tv_sec = 5, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(fd.get(), address.get(), address.size) != 0)
    return fail_errno(errno, fmt::format("can't connect socket to {}", to_text(options_.address)));
  return attach(std::move(fd));
}

Result<> StreamBackend::attach(UniqueFd socket) {
  const int one = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // not on a UNIX socket
  unsent_.clear();
  sent_ = input_start_ = input_end_ = 0;
  read_blocked_ = false;
  socket_ = std::move(socket);
  LIMEN_TRY(loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t events) {
    if ((events & EPOLLOUT) != 0) flush();
    if (socket_.valid() && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read_frames();
  }));
  ready();
  return {};
}

void StreamBackend::lose(const std::string& reason) {
  if (socket_.valid()) {
    log::info("{}: {}", id_, reason);
    loop_.unwatch(socket_.get());
    socket_.reset();
  }
  unsent_.clear();
  sent_ = 0;
  if (listener_.valid()) {
    [[maybe_unused]] const auto changed = loop_.change(listener_.get(), EPOLLIN);
  } else if (options_.reconnect_seconds != 0) {
    reconnect_.arm(loop_.now() + std::chrono::seconds(options_.reconnect_seconds));
  }
  ready();
}

void StreamBackend::update_watch() {
  if (!socket_.valid()) return;
  const uint32_t events =
      (read_blocked_ ? 0u : uint32_t{EPOLLIN}) | (unsent_.empty() ? 0u : uint32_t{EPOLLOUT});
  [[maybe_unused]] const auto changed = loop_.change(socket_.get(), events);
}

Delivery StreamBackend::receive(const Frame& frame, unsigned) {
  if (!socket_.valid()) return Delivery::kTaken;  // a cable that leads nowhere yet
  if (!unsent_.empty()) return Delivery::kFull;
  std::array<std::byte, kLengthBytes> length{};
  store32(length, 0, static_cast<uint32_t>(frame.bytes));
  std::vector<iovec> parts;
  parts.reserve(frame.parts.size() + 1);
  parts.push_back({length.data(), length.size()});
  parts.insert(parts.end(), frame.parts.begin(), frame.parts.end());
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = std::min<size_t>(parts.size(), IOV_MAX);
  ssize_t done = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (done < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      lose(fmt::format("the peer is gone: {}", std::strerror(errno)));
      return Delivery::kTaken;
    }
    done = 0;
  }
  const size_t whole = frame.bytes + kLengthBytes;
  if (static_cast<size_t>(done) == whole) return Delivery::kTaken;
  // The rest goes out when there is room; the bytes may be the guest's to change by then.
  const std::array<iovec, 1> head = {{{length.data(), length.size()}}};
  unsent_.resize(whole);
  copy_out({.parts = head, .bytes = kLengthBytes, .offload = {}}, unsent_);
  copy_out(frame, std::span(unsent_).subspan(kLengthBytes));
  sent_ = static_cast<size_t>(done);
  update_watch();
  return Delivery::kTaken;
}

void StreamBackend::flush() {
  while (sent_ < unsent_.size()) {
    const ssize_t done = ::send(socket_.get(), unsent_.data() + sent_, unsent_.size() - sent_,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0 && errno == EAGAIN) return;
    if (done < 0) return lose(fmt::format("the peer is gone: {}", std::strerror(errno)));
    sent_ += static_cast<size_t>(done);
  }
  unsent_.clear();
  sent_ = 0;
  update_watch();
  ready();
}

/// Gives whole frames to the card. False: it has no room.
bool StreamBackend::deliver() {
  while (input_end_ - input_start_ >= kLengthBytes) {
    const auto here = std::span(input_).subspan(input_start_, input_end_ - input_start_);
    const size_t length = load32(here, 0);
    if (length > kMaximumFrame) {
      lose(fmt::format("the peer sent a frame of {} bytes; the longest has {}", length,
                       kMaximumFrame));
      input_start_ = input_end_ = 0;
      return true;
    }
    if (here.size() < kLengthBytes + length) break;
    if (length != 0) {
      const iovec part{here.data() + kLengthBytes, length};
      if (send({.parts = {&part, 1}, .bytes = length, .offload = {}}) == Delivery::kFull)
        return false;
    }
    input_start_ += kLengthBytes + length;
  }
  return true;
}

void StreamBackend::read_frames() {
  bool blocked = !deliver();
  for (unsigned i = 0; i < 16 && !blocked && socket_.valid(); ++i) {
    if (input_start_ != 0) {
      std::memmove(input_.data(), input_.data() + input_start_, input_end_ - input_start_);
      input_end_ -= input_start_;
      input_start_ = 0;
    }
    const ssize_t got =
        ::recv(socket_.get(), input_.data() + input_end_, input_.size() - input_end_, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) break;
    if (got <= 0) {
      lose(got == 0 ? "the peer closed the connection"
                    : fmt::format("the peer is gone: {}", std::strerror(errno)));
      break;
    }
    input_end_ += static_cast<size_t>(got);
    blocked = !deliver();
  }
  end_burst();
  if (blocked != read_blocked_) {
    read_blocked_ = blocked;
    update_watch();
  }
}

void StreamBackend::peer_ready() {
  if (read_blocked_ && socket_.valid()) read_frames();
}

}  // namespace limen::net
