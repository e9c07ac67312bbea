// A limit on the time that KVM_RUN takes on this thread.
#pragma once

#include <signal.h>
#include <time.h>

#include <chrono>

#include "base/result.h"

namespace limen::kvm {

/// While it lives, SIGALRM is blocked on this thread and pends after `limit`; KVM_RUN of a vCPU
/// whose mask lets it through (allow_time_limit()) then fails with EINTR. No handler is installed,
/// and other threads do not notice.
class TimeLimit {
 public:
  explicit TimeLimit(std::chrono::nanoseconds limit);
  ~TimeLimit();
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;

  /// False: the system gave no timer, and nothing ends.
  [[nodiscard]] bool armed() const { return armed_; }

 private:
  sigset_t before_{};
  timer_t timer_{};
  bool armed_ = false;
};

/// Has KVM_RUN of this vCPU end for SIGALRM (KVM_SET_SIGNAL_MASK).
Result<> allow_time_limit(int vcpu);

}  // namespace limen::kvm
