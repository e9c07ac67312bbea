#include "soft/translate/host_thread.h"

#include <asm/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "soft/cpu.h"
#include "soft/interpret/native/fault_signals.h"
#include "soft/translate/translator.h"

namespace limen::soft::translate {
namespace {

thread_local Translator* current = nullptr;

bool recover(void* context) { return current != nullptr && current->recover(context); }

// The first real-time signal that the C library leaves free, and one that others seldom take.
int alarm_signal() { return SIGRTMIN + 7; }

void ring(int, siginfo_t* info, void*) {
  static_cast<Attention*>(info->si_value.sival_ptr)->call();
}

void install_once() {
  static const bool installed = [] {
    interpret::native::set_fault_hook(recover);
    struct sigaction action = {};
    action.sa_sigaction = ring;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    return sigaction(alarm_signal(), &action, nullptr) == 0;
  }();
  static_cast<void>(installed);
}

}  // namespace

HostThread::HostThread(Cpu& cpu, Translator& translator)
    : stack_(std::make_unique<std::byte[]>(kStackSize)) {
  install_once();
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

Alarm::Alarm(Attention& attention) {
  install_once();
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = alarm_signal();
  event.sigev_value.sival_ptr = &attention;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) {
    std::perror("limen: timer_create");
    std::abort();
  }
}

Alarm::~Alarm() { timer_delete(timer_); }

void Alarm::set(uint64_t nanoseconds) {
  itimerspec when = {};
  when.it_value.tv_sec = static_cast<time_t>(nanoseconds / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(nanoseconds % 1'000'000'000);
  if (nanoseconds == 0) when.it_value.tv_nsec = 1;
  timer_settime(timer_, 0, &when, nullptr);
}

}  // namespace limen::soft::translate
