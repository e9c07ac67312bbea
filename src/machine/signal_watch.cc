#include "machine/signal_watch.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>

#include <cerrno>

namespace limen::machine {

Result<std::unique_ptr<SignalWatch>> SignalWatch::create(EventLoop& loop,
                                                         std::function<void(int)> received) {
  std::unique_ptr<SignalWatch> watch(new SignalWatch(loop));
  sigset_t signals;
  ::sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, &watch->previous_);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, &watch->previous_pipe_);

  watch->fd_.reset(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!watch->fd_.valid()) return fail_errno(errno, "signalfd");
  const int fd = watch->fd_.get();
  LIMEN_TRY(loop.watch(fd, EPOLLIN, [fd, received = std::move(received)](uint32_t) {
    signalfd_siginfo info{};
    while (::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info))
      received(static_cast<int>(info.ssi_signo));
  }));
  return watch;
}

SignalWatch::~SignalWatch() {
  if (fd_.valid()) loop_.unwatch(fd_.get());
  ::sigaction(SIGPIPE, &previous_pipe_, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &previous_, nullptr);
}

}  // namespace limen::machine
