#include "soft/translate/host_thread.h"

#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "soft/cpu.h"
#include "soft/interpret/native/fault_signals.h"
#include "soft/translate/translator.h"

namespace limen::soft::translate {
namespace {

thread_local Translator* current = nullptr;

bool recover(void* context) { return current != nullptr && current->recover(context); }

// The first real-time signal that the C library leaves free, and one that others seldom take.
constexpr int kAlarmFromFirst = 7;

void ring(int, siginfo_t* info, void*) {
  static_cast<Attention*>(info->si_value.sival_ptr)->call();
}

/// The alarm's signal; installs the handlers before it is first given out.
int alarm_signal() {
  static const int signal = [] {
    interpret::native::set_fault_hook(recover);
    struct sigaction action = {};
    action.sa_sigaction = ring;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGRTMIN + kAlarmFromFirst, &action, nullptr);
    return SIGRTMIN + kAlarmFromFirst;
  }();
  return signal;
}

}  // namespace

HostThread::HostThread(Cpu& cpu, Translator& translator)
    : stack_(std::make_unique<std::byte[]>(kStackSize)), alarm_(alarm_signal(), &cpu.attention) {
  translator.prepare_thread();
  const stack_t stack = {.ss_sp = stack_.get(), .ss_flags = 0, .ss_size = kStackSize};
  sigaltstack(&stack, &previous_stack_);
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int signal : {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP, SIGABRT, SIGPROF})
    sigdelset(&blocked, signal);
  sigdelset(&blocked, alarm_signal());
  pthread_sigmask(SIG_BLOCK, &blocked, &previous_signals_);
  syscall(SYS_arch_prctl, ARCH_GET_GS, &previous_gs_);
  syscall(SYS_arch_prctl, ARCH_SET_GS, &cpu);
  previous_translator_ = current;
  current = &translator;
}

HostThread::~HostThread() {
  current = previous_translator_;
  syscall(SYS_arch_prctl, ARCH_SET_GS, previous_gs_);
  pthread_sigmask(SIG_SETMASK, &previous_signals_, nullptr);
  sigaltstack(&previous_stack_, nullptr);
}

}  // namespace limen::soft::translate
