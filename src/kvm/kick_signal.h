// The signal that has a thread come back from KVM_RUN.
#pragma once

#include <pthread.h>

struct kvm_run;

namespace limen::kvm {

/// Installs the handler, once. A thread that gets the signal has the kernel leave the machine that
/// it declared with set_running(), or not enter it (kvm_run::immediate_exit): no signal is too
/// early.
void prepare_kick_signal();
[[nodiscard]] int kick_signal();
/// What this thread runs from now on; nullptr: nothing.
void set_running(kvm_run* run);

}  // namespace limen::kvm
