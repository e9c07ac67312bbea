// Hardware task switches between 16- and 32-bit TSSs (SDM Vol. 3A chapter 7). IA-32e mode has none.
#pragma once

#include <cstdint>
#include <optional>

#include "soft/cpu.h"
#include "soft/interpret/system/descriptor.h"

namespace limen::soft::interpret {

enum class TaskSwitchCause : uint8_t { kJump, kCall, kReturn, kInterrupt };

struct TaskSwitch {
  uint16_t selector = 0;  ///< Of the new TSS.
  Descriptor descriptor{};
  TaskSwitchCause cause = TaskSwitchCause::kJump;
  uint64_t return_rip = 0;       ///< EIP to save in the old TSS.
  uint64_t saved_flags_set = 0;  ///< Bits to set in the saved EFLAGS (RF of a fault).
  std::optional<uint32_t> error_code = std::nullopt;  ///< Pushed on the new task's stack.
  uint32_t external = 0;                              ///< EXT bit of error codes.
};

/// Switches to a TSS whose privilege the caller has checked; leaves the new EIP in gpr[kNextRip].
/// Faults before the switch are raised in the old task; faults while the new task's segments are
/// loaded are raised in the new one, with cpu.rip already its EIP (SDM Vol. 3A 7.3).
void switch_task(Cpu& cpu, const TaskSwitch& request);

/// The same through a task gate in the GDT or an LDT, or in the IDT (`error_code`, `external`).
void switch_task_through_gate(Cpu& cpu, const Descriptor& gate, TaskSwitchCause cause,
                              uint64_t return_rip, uint64_t saved_flags_set = 0,
                              std::optional<uint32_t> error_code = std::nullopt,
                              uint32_t external = 0);

/// IRET with EFLAGS.NT set: back to the task that the current TSS links to.
void return_to_previous_task(Cpu& cpu);

}  // namespace limen::soft::interpret
