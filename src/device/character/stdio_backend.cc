#include "device/character/stdio_backend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

namespace limen::device {

StdioBackend::StdioBackend(EventLoop& loop, Options options) : loop_(loop), options_(options) {}

Result<std::unique_ptr<StdioBackend>> StdioBackend::create(EventLoop& loop, Options options) {
  std::unique_ptr<StdioBackend> backend(new StdioBackend(loop, options));
  LIMEN_TRY(backend->open());
  return backend;
}

Result<> StdioBackend::open() {
  std::signal(SIGPIPE, SIG_IGN);
  LIMEN_TRY(open_output());
  terminal_ = LIMEN_TRY(RawTerminal::create(options_.input, options_.keep_signals));
  watch_input(true);
  return {};
}

Result<> StdioBackend::open_output() {
  struct stat status {};
  if (::fstat(options_.output, &status) != 0)
    return fail_errno(errno, fmt::format("output on file descriptor {}", options_.output));
  if (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode)) {
    // An open file of our own can be non-blocking without making the other holders' so.
    const auto path = fmt::format("/proc/self/fd/{}", options_.output);
    output_.reset(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    if (output_.valid()) {
      output_kind_ = Output::kNonBlocking;
      return {};
    }
  }
  output_.reset(::fcntl(options_.output, F_DUPFD_CLOEXEC, 3));
  if (!output_.valid())
    return fail_errno(errno, fmt::format("output on file descriptor {}", options_.output));
  output_kind_ = S_ISREG(status.st_mode) || S_ISBLK(status.st_mode) ? Output::kFile
                 : S_ISSOCK(status.st_mode)                         ? Output::kSocket
                                                                    : Output::kPoll;
  return {};
}

StdioBackend::~StdioBackend() {
  watch_input(false);
  const std::lock_guard lock(mutex_);
  if (output_watched_) loop_.unwatch(output_.get());
  const auto until = Clock::now() + std::chrono::milliseconds(250);
  while (!output_dead_ && sent_ < pending_.size() && Clock::now() < until) {
    pollfd poll{.fd = output_.get(), .events = POLLOUT, .revents = 0};
    ::poll(&poll, 1, 10);
    flush();
  }
}

void StdioBackend::write(std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  if (output_dead_) return;
  if (pending_.empty()) {
    while (!bytes.empty() && !output_dead_) {
      const size_t count = write_some(bytes.data(), bytes.size());
      if (count == 0) break;
      bytes = bytes.subspan(count);
    }
    if (bytes.empty() || output_dead_) return;
  }
  const size_t kept =
      std::min(bytes.size(), output_limit_ - std::min<size_t>(output_limit_, pending_.size()));
  pending_.insert(pending_.end(), bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(kept));
  watch_output();
}

size_t StdioBackend::pending_output() const {
  const std::lock_guard lock(mutex_);
  return pending_.size() - sent_;
}

size_t StdioBackend::write_some(const uint8_t* bytes, size_t count) {
  if (output_kind_ == Output::kPoll) {
    // Ready means room for one page in a pipe; a short write into a terminal's queue does not wait.
    pollfd poll{.fd = output_.get(), .events = POLLOUT, .revents = 0};
    if (::poll(&poll, 1, 0) <= 0) return 0;
    count = std::min<size_t>(count, 256);
  }
  for (;;) {
    const ssize_t written = output_kind_ == Output::kSocket
                                ? ::send(output_.get(), bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL)
                                : ::write(output_.get(), bytes, count);
    if (written >= 0) return static_cast<size_t>(written);
    if (errno == EINTR) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
    // EPIPE, EIO after a hang-up, a full disk: nobody reads this any more.
    output_dead_ = true;
    pending_.clear();
    sent_ = 0;
    return 0;
  }
}

void StdioBackend::flush() {
  while (sent_ < pending_.size()) {
    const size_t count = write_some(pending_.data() + sent_, pending_.size() - sent_);
    if (count == 0) break;
    sent_ += count;
  }
  if (sent_ >= pending_.size()) {
    pending_.clear();
    sent_ = 0;
  } else if (sent_ > pending_.size() / 2) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(sent_));
    sent_ = 0;
  }
}

void StdioBackend::watch_output() {
  if (output_watched_) return;
  output_watched_ =
      loop_.watch(output_.get(), EPOLLOUT, [this](uint32_t) { output_ready(); }).has_value();
}

void StdioBackend::output_ready() {
  {
    const std::lock_guard lock(mutex_);
    flush();
    if (!pending_.empty() || !output_watched_) return;
    loop_.unwatch(output_.get());
    output_watched_ = false;
  }
  // A front end may have waited for this before it reads more.
  accept_input();
}

void StdioBackend::watch_input(bool wanted) {
  if (wanted && !input_watched_ && !input_ended_ && input_pollable_) {
    // A regular file and /dev/null cannot be watched: they are read when the guest has room.
    input_pollable_ =
        loop_.watch(options_.input, EPOLLIN, [this](uint32_t) { input_ready(); }).has_value();
    input_watched_ = input_pollable_;
  } else if (!wanted && input_watched_) {
    loop_.unwatch(options_.input);
    input_watched_ = false;
  }
}

void StdioBackend::input_ready() {
  std::array<uint8_t, 4096> typed;
  const ssize_t count = ::read(options_.input, typed.data(), typed.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (count <= 0) {
    input_ended_ = true;
    watch_input(false);
    return;
  }
  const std::span<const uint8_t> got(typed.data(), static_cast<size_t>(count));
  input_.insert(input_.end(), got.begin(), got.end());
  deliver();
}

void StdioBackend::deliver() {
  if (!input_pollable_ && !input_ended_ && input_.empty() && can_receive_ && can_receive_() != 0) {
    input_ready();  // comes back here if there was something
    return;
  }
  size_t taken = 0;
  while (taken < input_.size() && can_receive_ && receive_) {
    const size_t count = std::min(can_receive_(), input_.size() - taken);
    if (count == 0) break;
    receive_(std::span<const uint8_t>(input_).subspan(taken, count));
    taken += count;
  }
  input_.erase(input_.begin(), input_.begin() + static_cast<ptrdiff_t>(taken));
  watch_input(input_.size() < kInputLimit);
}

void StdioBackend::accept_input() {
  if (deliver_posted_.exchange(true)) return;
  loop_.post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    deliver_posted_ = false;
    deliver();
  });
}

}  // namespace limen::device
