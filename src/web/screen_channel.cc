#include "web/screen_channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace limen::web {
namespace {

constexpr size_t kEnough = size_t{256} << 10;  // for a client that does not read
/// More than a VNC server that lives leaves behind.
constexpr size_t kTooMuch = size_t{1} << 20;

}  // namespace

Result<std::unique_ptr<ScreenChannel>> ScreenChannel::create(HttpService& service,
                                                             vnc::Server& server, Socket& socket) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
    return fail_errno(errno, "cannot make a pair of sockets");
  UniqueFd own(ends[0]), other(ends[1]);
  std::unique_ptr<ScreenChannel> channel(new ScreenChannel(socket));
  channel->fd_ = own.get();
  channel->watch_ = service.watch(std::move(own), *channel);
  if (channel->watch_ == nullptr) return fail("there is no place for another screen");
  server.adopt(std::move(other));
  return channel;
}

void ScreenChannel::readable() {
  const size_t before = to_client_.size();
  constexpr size_t kMost = size_t{64} << 10;
  to_client_.resize(before + kMost);
  const auto count = ::recv(fd_, to_client_.data() + before, kMost, MSG_DONTWAIT);
  const bool nothing_now = count < 0 && (errno == EAGAIN || errno == EINTR);
  to_client_.resize(before + static_cast<size_t>(std::max<ssize_t>(count, 0)));
  if (count <= 0) {
    if (!nothing_now) socket_.close();
    return;
  }
  socket_.want_write();
  if (to_client_.size() >= kEnough && !std::exchange(held_, true)) watch_->hold(true);
}

std::optional<Channel::Message> ScreenChannel::next() {
  if (to_client_.empty()) return {};
  Message message{.bytes = std::exchange(to_client_, {})};
  if (std::exchange(held_, false)) watch_->hold(false);
  return message;
}

Result<> ScreenChannel::received(std::span<const uint8_t> piece, bool) {
  to_server_.insert(to_server_.end(), piece.begin(), piece.end());
  if (to_server_.size() > kTooMuch) return fail("it sends more than the VNC server takes");
  writable();
  return {};
}

void ScreenChannel::writable() {
  size_t sent = 0;
  while (sent < to_server_.size()) {
    const auto count = ::send(fd_, to_server_.data() + sent, to_server_.size() - sent,
                              MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno != EAGAIN) return socket_.close();
    if (count < 0) break;
    sent += static_cast<size_t>(count);
  }
  to_server_.erase(to_server_.begin(), to_server_.begin() + static_cast<ptrdiff_t>(sent));
  if (!to_server_.empty()) watch_->want_writable();
}

}  // namespace limen::web
