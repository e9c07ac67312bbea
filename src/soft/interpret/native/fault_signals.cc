#include "soft/interpret/native/fault_signals.h"

#include <signal.h>
#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "soft/interpret/native/code_area.h"
#include "x86/exception.h"

namespace limen::soft::interpret::native {
namespace {

constexpr std::array kSignals = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};

const CodeArea* watched_area = nullptr;
std::array<struct sigaction, kSignals.size()> previous_actions;
std::atomic<bool (*)(void*)> fault_hook = nullptr;

/// Exceptions that an instruction of the guest's may raise by itself. A page fault is not among
/// them: the addresses are ours.
bool is_guests_own(uint64_t number) {
  switch (static_cast<x86::Vector>(number)) {
    case x86::Vector::kInvalidOpcode:
    case x86::Vector::kGeneralProtection:
    case x86::Vector::kX87FloatingPoint:
    case x86::Vector::kAlignmentCheck:
    case x86::Vector::kSimdFloatingPoint:
      return true;
    default:
      return false;
  }
}

void pass_on(int signal, siginfo_t* info, void* context) {
  for (size_t i = 0; i < kSignals.size(); ++i) {
    if (kSignals[i] != signal) continue;
    const struct sigaction& previous = previous_actions[i];
    if ((previous.sa_flags & SA_SIGINFO) && previous.sa_sigaction) {
      previous.sa_sigaction(signal, info, context);
    } else if (previous.sa_handler == SIG_IGN && info->si_code <= 0) {
      return;  // sent by a process, and to be ignored
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
      previous.sa_handler(signal);
    } else {
      // Take the default action: the instruction faults again, or the signal is sent again.
      ::signal(signal, SIG_DFL);
      if (info->si_code <= 0) raise(signal);
    }
    return;
  }
}

void handle(int signal, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto number = static_cast<uint64_t>(registers[REG_TRAPNO]);
  const bool by_instruction = info->si_code > 0;
  auto* const hook = fault_hook.load(std::memory_order_relaxed);
  if (by_instruction && hook != nullptr && hook(context)) return;
  if (by_instruction && is_guests_own(number)) {
    const uintptr_t recovery =
        watched_area->recovery_for(static_cast<uintptr_t>(registers[REG_RIP]));
    if (recovery) {
      registers[REG_RIP] = static_cast<greg_t>(recovery);
      registers[REG_RAX] = static_cast<greg_t>(number);
      return;
    }
  }
  pass_on(signal, info, context);
}

}  // namespace

void set_fault_hook(bool (*hook)(void* context)) { fault_hook = hook; }

void install_fault_handlers(const CodeArea& area) {
  watched_area = &area;
  struct sigaction action = {};
  action.sa_sigaction = handle;
  // On the alternate stack where the thread has one (AddressSanitizer gives it one).
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kSignals.size(); ++i)
    sigaction(kSignals[i], &action, &previous_actions[i]);
}

}  // namespace limen::soft::interpret::native
