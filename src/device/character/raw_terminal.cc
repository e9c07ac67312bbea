#include "device/character/raw_terminal.h"

#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>

namespace limen::device {
namespace {

// What the signal handlers need; they may run at any time once held is true.
struct Held {
  std::atomic<bool> held = false;
  int fd = -1;
  termios original{};
  termios raw{};
};
Held state;

constexpr std::array kFatalSignals = {SIGHUP, SIGINT,  SIGQUIT, SIGTERM, SIGSEGV,
                                      SIGBUS, SIGABRT, SIGILL,  SIGFPE,  SIGTRAP};

bool in_foreground() { return ::tcgetpgrp(state.fd) == ::getpgrp(); }

void restore() {
  // From the background tcsetattr() would stop the process; the terminal is not ours then.
  if (state.held.load() && in_foreground()) ::tcsetattr(state.fd, TCSANOW, &state.original);
}

void on_fatal(int signal) {
  restore();
  // SA_RESETHAND has put the default action back: it ends the process, with a core where it should.
  ::raise(signal);
}

void on_stop(int) {
  const int saved_errno = errno;
  restore();
  ::raise(SIGSTOP);
  errno = saved_errno;
}

void on_continue(int) {
  const int saved_errno = errno;
  if (state.held.load() && in_foreground()) ::tcsetattr(state.fd, TCSANOW, &state.raw);
  errno = saved_errno;
}

void handle_if_default(int signal, void (*handler)(int), int flags) {
  struct sigaction current {};
  if (::sigaction(signal, nullptr, &current) != 0 || current.sa_handler != SIG_DFL) return;
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  ::sigaction(signal, &action, nullptr);
}

void unhandle(int signal, void (*handler)(int)) {
  struct sigaction current {};
  if (::sigaction(signal, nullptr, &current) == 0 && current.sa_handler == handler)
    ::signal(signal, SIG_DFL);
}

}  // namespace

Result<std::unique_ptr<RawTerminal>> RawTerminal::create(int fd, bool signals) {
  if (::isatty(fd) == 0 || state.held.load()) return nullptr;
  if (::tcgetattr(fd, &state.original) != 0)
    return fail_errno(errno, fmt::format("reading the terminal's mode on file descriptor {}", fd));
  state.fd = fd;
  state.raw = state.original;
  state.raw.c_iflag &=
      ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
  state.raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN);
  if (!signals) state.raw.c_lflag &= ~static_cast<tcflag_t>(ISIG);
  state.raw.c_cc[VMIN] = 1;
  state.raw.c_cc[VTIME] = 0;

  static const bool at_exit = [] { return std::atexit(restore) == 0; }();
  static_cast<void>(at_exit);
  state.held = true;
  for (const int signal : kFatalSignals)
    handle_if_default(signal, on_fatal, static_cast<int>(SA_RESETHAND | SA_NODEFER));
  handle_if_default(SIGTSTP, on_stop, SA_RESTART);
  handle_if_default(SIGCONT, on_continue, SA_RESTART);
  // In the background the mode is set by SIGCONT when the process comes to the front.
  if (in_foreground()) ::tcsetattr(fd, TCSANOW, &state.raw);
  return std::unique_ptr<RawTerminal>(new RawTerminal);
}

RawTerminal::~RawTerminal() {
  restore();
  state.held = false;
  for (const int signal : kFatalSignals) unhandle(signal, on_fatal);
  unhandle(SIGTSTP, on_stop);
  unhandle(SIGCONT, on_continue);
}

}  // namespace limen::device
