#include "device/character/stream_backend.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace limen::device {
namespace {

constexpr size_t kReadSize = 4096;
constexpr size_t kMostDescriptors = 16;  // in one message

/// Reads with the descriptors that came along; anything but a socket fails with ENOTSOCK.
ssize_t receive(int fd, std::span<uint8_t> into, std::vector<UniqueFd>& descriptors) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostDescriptors * sizeof(int))> control;
  iovec vector{.iov_base = into.data(), .iov_len = into.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t count = ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (count < 0) return count;
  std::vector<UniqueFd> got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < number; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof descriptor);
      got.emplace_back(descriptor);
    }
  }
  if (!got.empty()) descriptors = std::move(got);
  return count;
}

}  // namespace

StreamBackend::~StreamBackend() {
  watch_input(Watch::kNothing);
  const std::lock_guard lock(mutex_);
  if (output_watched_) loop_.unwatch(output_.get());
  output_watched_ = false;
  const auto until = Clock::now() + std::chrono::milliseconds(250);
  while (output_.valid() && sent_ < pending_.size() && Clock::now() < until) {
    pollfd poll{.fd = output_.get(), .events = POLLOUT, .revents = 0};
    ::poll(&poll, 1, 10);
    flush();
  }
}

Result<> StreamBackend::connect_peer(UniqueFd input, UniqueFd output, bool telnet) {
  disconnect_peer();
  telnet_ = telnet ? std::make_unique<TelnetFilter>() : nullptr;
  {
    const std::lock_guard lock(mutex_);
    output_ = std::move(output);
    output_is_telnet_ = telnet;
    if (telnet) {
      const auto greeting = TelnetFilter::greeting();
      pending_.assign(greeting.begin(), greeting.end());
      flush();
      watch_output();
    }
  }
  input_ = std::move(input);
  tell(CharacterEvent::kOpened);
  accept_input();
  return {};
}

void StreamBackend::disconnect_peer() {
  watch_input(Watch::kNothing);
  input_.reset();
  descriptors_.clear();
  const std::lock_guard lock(mutex_);
  close_output();
}

void StreamBackend::close_output() {
  if (output_watched_) loop_.unwatch(output_.get());
  output_watched_ = false;
  output_.reset();
  pending_.clear();
  sent_ = 0;
}

void StreamBackend::drop_peer() {
  disconnect_peer();
  tell(CharacterEvent::kClosed);
  peer_gone();
}

// --- Output -------------------------------------------------------------------------------------

void StreamBackend::write(std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  if (!output_.valid() || bytes.empty()) return;
  std::vector<uint8_t> encoded;
  if (output_is_telnet_) {
    encoded = TelnetFilter::encode(bytes);
    bytes = encoded;
  }
  if (sent_ == pending_.size()) {
    pending_.clear();
    sent_ = 0;
    while (!bytes.empty()) {
      const ssize_t count = ::write(output_.get(), bytes.data(), bytes.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
    if (bytes.empty()) return;
  }
  const size_t waiting = pending_.size() - sent_;
  const size_t limit = output_limit_;
  const size_t kept = std::min(bytes.size(), limit - std::min(limit, waiting));
  pending_.insert(pending_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(kept));
  watch_output();
}

size_t StreamBackend::pending_output() const {
  const std::lock_guard lock(mutex_);
  return pending_.size() - sent_;
}

void StreamBackend::flush() {
  while (sent_ < pending_.size()) {
    const ssize_t count = ::write(output_.get(), pending_.data() + sent_, pending_.size() - sent_);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno != EAGAIN && errno != EWOULDBLOCK) sent_ = pending_.size();  // gone
    if (count <= 0) break;
    sent_ += static_cast<size_t>(count);
  }
  if (sent_ == pending_.size()) {
    pending_.clear();
    sent_ = 0;
  } else if (sent_ > pending_.size() / 2) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(sent_));
    sent_ = 0;
  }
}

void StreamBackend::watch_output() {
  if (output_watched_ || pending_.empty()) return;
  output_watched_ =
      loop_.watch(output_.get(), EPOLLOUT, [this](uint32_t) { output_ready(); }).has_value();
}

void StreamBackend::output_ready() {
  {
    const std::lock_guard lock(mutex_);
    if (!output_.valid()) return;
    flush();
    if (!pending_.empty()) return;
    if (output_watched_) loop_.unwatch(output_.get());
    output_watched_ = false;
  }
  // A front end may have waited for this before it reads more.
  accept_input();
}

// --- Input --------------------------------------------------------------------------------------

void StreamBackend::accept_input() {
  if (deliver_posted_.exchange(true)) return;
  loop_.post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    deliver_posted_ = false;
    deliver();
  });
}

void StreamBackend::watch_input(Watch wanted) {
  if (wanted == input_watch_ || !input_.valid()) return;
  // Without room only the peer's end is of interest, and that once.
  const uint32_t events =
      wanted == Watch::kInput ? EPOLLIN | EPOLLRDHUP : static_cast<uint32_t>(EPOLLRDHUP | EPOLLET);
  if (wanted == Watch::kNothing)
    loop_.unwatch(input_.get());
  else if (input_watch_ != Watch::kNothing && !loop_.change(input_.get(), events))
    return;
  else if (input_watch_ == Watch::kNothing &&
           !loop_.watch(input_.get(), events, [this](uint32_t ready) { input_ready(ready); }))
    return;
  input_watch_ = wanted;
}

void StreamBackend::input_ready(uint32_t events) {
  int unread = 0;
  if (input_watch_ == Watch::kHangUp && (events & (EPOLLHUP | EPOLLRDHUP)) != 0 &&
      ::ioctl(input_.get(), FIONREAD, &unread) == 0 && unread == 0)
    return drop_peer();
  deliver();
}

ssize_t StreamBackend::read_some(std::span<uint8_t> into) {
  for (;;) {
    ssize_t count = receive(input_.get(), into, descriptors_);
    if (count < 0 && errno == ENOTSOCK) count = ::read(input_.get(), into.data(), into.size());
    if (count >= 0) return count;
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : 0;
  }
}

/// One read at a time, so that a flood does not starve the rest of the loop: what is left makes the
/// descriptor ready again.
void StreamBackend::deliver() {
  if (!input_.valid()) return;
  const size_t room = can_receive_ && receive_ ? can_receive_() : 0;
  if (room == 0) {
    watch_input(Watch::kHangUp);
    return;
  }
  std::vector<uint8_t> bytes(std::min(room, kReadSize));
  const ssize_t count = read_some(bytes);
  if (count == 0) {
    drop_peer();
    return;
  }
  watch_input(Watch::kInput);
  if (count < 0) return;
  bytes.resize(static_cast<size_t>(count));
  unsigned breaks = 0;
  if (telnet_) telnet_->filter(bytes, breaks);
  const auto alive = std::weak_ptr<bool>(alive_);
  for (; breaks != 0 && !alive.expired(); --breaks) tell(CharacterEvent::kBreak);
  if (!alive.expired() && receive_ && !bytes.empty()) receive_(bytes);
}

}  // namespace limen::device
