// SIGINT, SIGTERM and SIGHUP as events of the main loop.
#pragma once

#include <signal.h>

#include <functional>
#include <memory>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::machine {

/// While one lives, the signals that ask a program to end are blocked in the thread that made it
/// and in threads made later, and handed to a callback on the loop's thread. SIGPIPE is ignored: a
/// reader that went away is an error of the write.
class SignalWatch {
 public:
  static Result<std::unique_ptr<SignalWatch>> create(EventLoop& loop,
                                                     std::function<void(int signal)> received);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;

 private:
  explicit SignalWatch(EventLoop& loop) : loop_(loop) {}

  EventLoop& loop_;
  UniqueFd fd_;
  sigset_t previous_{};
  struct sigaction previous_pipe_ {};
};

}  // namespace limen::machine
