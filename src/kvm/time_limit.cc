#include "kvm/time_limit.h"

#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "kvm/ioctl.h"
#include "kvm/kernel.h"

namespace limen::kvm {
namespace {

constexpr int kSignal = SIGALRM;

sigset_t only_the_signal() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, kSignal);
  return set;
}

}  // namespace

TimeLimit::TimeLimit(std::chrono::nanoseconds limit) {
  const sigset_t set = only_the_signal();
  pthread_sigmask(SIG_BLOCK, &set, &before_);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kSignal;
  event._sigev_un._tid = ::gettid();
  armed_ = timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0;
  if (!armed_) return;
  constexpr int64_t kSecond = 1'000'000'000;
  const itimerspec time{.it_interval = {},
                        .it_value = {limit.count() / kSecond, limit.count() % kSecond}};
  timer_settime(timer_, 0, &time, nullptr);
}

TimeLimit::~TimeLimit() {
  if (armed_) timer_delete(timer_);
  // What the timer left must not be there when the mask lets it through; another's stays.
  const sigset_t set = only_the_signal();
  const timespec now{};
  siginfo_t left;
  if (sigtimedwait(&set, &left, &now) == kSignal && left.si_code != SI_TIMER)
    ::kill(::getpid(), kSignal);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

Result<> allow_time_limit(int vcpu) {
  // The kernel's sigset_t has a bit per signal, 64 of them.
  struct {
    kvm_signal_mask header;
    uint64_t mask;
  } __attribute__((packed)) argument{};
  argument.header.len = sizeof argument.mask;
  argument.mask = ~(uint64_t{1} << (kSignal - 1));
  LIMEN_TRY(try_call(vcpu, KVM_SET_SIGNAL_MASK, "KVM_SET_SIGNAL_MASK", &argument));
  return {};
}

}  // namespace limen::kvm
