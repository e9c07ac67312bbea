#include "device/character/pty_backend.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>

#include "base/log.h"

namespace limen::device {
namespace {

constexpr auto kLookInterval = std::chrono::milliseconds(200);

}  // namespace

Result<std::unique_ptr<PtyBackend>> PtyBackend::create(EventLoop& loop) {
  std::unique_ptr<PtyBackend> backend(new PtyBackend(loop));
  LIMEN_TRY(backend->open());
  return backend;
}

Result<> PtyBackend::open() {
  int master = -1;
  int slave = -1;
  std::array<char, PATH_MAX> name{};
  if (::openpty(&master, &slave, name.data(), nullptr, nullptr) != 0)
    return fail_errno(errno, "Failed to open a pseudo-terminal");
  master_.reset(master);
  path_ = name.data();
  // Closing this end once makes the master see hang-ups: it then knows whether anyone is there.
  const UniqueFd other(slave);
  termios mode{};
  if (::tcgetattr(slave, &mode) == 0) {
    ::cfmakeraw(&mode);
    ::tcsetattr(slave, TCSAFLUSH, &mode);
  }
  ::fcntl(master, F_SETFD, FD_CLOEXEC);
  ::fcntl(master, F_SETFL, ::fcntl(master, F_GETFL) | O_NONBLOCK);

  opened_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (opened_.valid() && ::inotify_add_watch(opened_.get(), path_.c_str(), IN_OPEN) >= 0) {
    LIMEN_TRY(loop_.watch(opened_.get(), EPOLLIN, [this](uint32_t) {
      std::array<char, 4096> events;
      while (::read(opened_.get(), events.data(), events.size()) > 0) {
      }
      look();
    }));
  } else {
    opened_.reset();
    schedule_look();
  }
  return {};
}

PtyBackend::~PtyBackend() {
  if (opened_.valid()) loop_.unwatch(opened_.get());
}

void PtyBackend::schedule_look() { check_.arm(Clock::now() + kLookInterval); }

void PtyBackend::look() {
  if (peer_present()) return;
  // Someone who wrote and closed again at once left bytes behind: reading tells.
  UniqueFd input(::fcntl(master_.get(), F_DUPFD_CLOEXEC, 3));
  UniqueFd output(::fcntl(master_.get(), F_DUPFD_CLOEXEC, 3));
  if (!opened_.valid()) {
    pollfd poll{.fd = master_.get(), .events = POLLIN, .revents = 0};
    ::poll(&poll, 1, 0);
    if ((poll.revents & POLLHUP) != 0 && (poll.revents & POLLIN) == 0) return schedule_look();
  }
  if (!input.valid() || !output.valid()) return;
  if (auto connected = connect_peer(std::move(input), std::move(output)); !connected)
    log::warning("{}", connected.error().message);
}

void PtyBackend::peer_gone() {
  if (!opened_.valid()) schedule_look();
}

}  // namespace limen::device
