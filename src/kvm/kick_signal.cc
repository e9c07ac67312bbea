#include "kvm/kick_signal.h"

#include <csignal>
#include <mutex>

#include "kvm/kernel.h"

namespace limen::kvm {
namespace {

thread_local kvm_run* volatile running = nullptr;

void leave(int) {
  if (kvm_run* run = running; run != nullptr) run->immediate_exit = 1;
}

}  // namespace

int kick_signal() { return SIGRTMIN + 6; }

void prepare_kick_signal() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = leave;
    action.sa_flags = SA_RESTART;  // for the system calls of devices; KVM_RUN always returns
    ::sigaction(kick_signal(), &action, nullptr);
  });
}

void set_running(kvm_run* run) { running = run; }

}  // namespace limen::kvm
