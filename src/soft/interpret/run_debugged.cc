// What the run loop does while a debugger wants stops: breakpoints, watchpoints, single steps.
#include "soft/interpret/runner.h"

namespace limen::soft::interpret {

using Cause = vcpu::DebugStop::Cause;
using vcpu::ExitReason;

Runner::Next Runner::look_for_stop() {
  if (cpu_.mmu.has_debugger_hits()) {
    const vcpu::Watchpoint hit = cpu_.mmu.take_debugger_hit();
    stop_ = {.cause = Cause::kWatchpoint, .address = hit.address, .watch = hit.kind};
    return Next::kStop;
  }
  // Before the fetch, which may fault: as on a processor (SDM Vol. 3A table 6-2).
  const uint64_t linear = cpu_.code_linear(cpu_.rip);
  if (!cpu_.debugger.stops_at(linear)) return Next::kGoOn;
  stop_ = {.cause = Cause::kBreakpoint, .address = linear};
  return Next::kStop;
}

Runner::Next Runner::run_block_to_breakpoint() {
  // Translated code may have come here.
  if (const Next next = look_for_stop(); next != Next::kGoOn) return next;
  const Block& block = cache_.find(cpu_);
  visited_[visited_next_++ % visited_.size()] = {cpu_.code_linear(cpu_.rip), cpu_.mode,
                                                 block.count};
  look_up_ = block.ends_in_system;
  cpu_.leave_block = false;
  const Operation* operation = block.operations();
  const Operation* const end = operation + operations_inside_segment(block);
  do {
    execute(*operation);
    ++operation;
    ++instructions_;
  } while (operation != end && !cpu_.leave_block &&
           !cpu_.debugger.stops_at(cpu_.code_linear(cpu_.rip)));
  return Next::kGoOn;
}

vcpu::Exit Runner::run_one_step() {
  const auto stopped = [this](Cause cause) {
    const vcpu::DebugStop stop{.cause = cause, .address = cpu_.code_linear(cpu_.rip)};
    return vcpu::Exit{.reason = ExitReason::kDebug, .debug = stop};
  };
  for (;;) {
    if (look_up_ || cpu_.attention.is_called()) {
      const uint64_t rip = cpu_.rip;
      const Next next = service();
      if (next == Next::kReturn) return {};
      if (next == Next::kShutdown) return {ExitReason::kShutdown, "triple fault"};
      // An interrupt was delivered: its handler's first instruction is what comes next.
      if (cpu_.rip != rip) return stopped(Cause::kStep);
      if (look_up_) continue;  // it waits
    }
    Next next = Next::kGoOn;
    try {
      next = run_single();
    } catch (const x86::Exception& exception) {
      next = deliver(exception);
    }
    if (next == Next::kShutdown) return {ExitReason::kShutdown, "triple fault"};
    if (!cpu_.mmu.has_debugger_hits()) return stopped(Cause::kStep);
    static_cast<void>(look_for_stop());
    return {.reason = ExitReason::kDebug, .debug = stop_};
  }
}

Runner::Next Runner::wake_without_interrupt() {
  auto& activity = cpu_.activity;
  if (activity.wait_for_sipi) return wait_while_halted();
  if (!activity.halted) return Next::kGoOn;
  const bool interrupt =
      (cpu_.flags_rest & x86::rflags::kInterrupt) != 0 && cpu_.interrupts.has_interrupt();
  if (!interrupt && (!activity.nmi_pending || activity.nmi_blocked)) return wait_while_halted();
  // What ends HLT is taken when the processor runs freely again.
  activity.halted = false;
  return Next::kGoOn;
}

}  // namespace limen::soft::interpret
