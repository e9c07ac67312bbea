// IRET in all modes (SDM Vol. 2A "IRET/IRETD/IRETQ").
#include "soft/interpret/operand.h"
#include "soft/interpret/system/far_transfer.h"
#include "soft/interpret/system/flags.h"
#include "soft/interpret/system/handlers.h"
#include "soft/interpret/system/return_stack.h"
#include "soft/interpret/system/segment.h"
#include "soft/interpret/system/task_switch.h"

namespace limen::soft::interpret {

using decode::CodeMode;
using x86::Exception;
using x86::Segment;
namespace rflags = x86::rflags;

namespace {

/// The bits of EFLAGS that IRET may change at this privilege and operand size.
uint64_t changeable_flags(const Cpu& cpu, unsigned operand_size) {
  uint64_t mask = rflags::kArithmetic | rflags::kTrap | rflags::kDirection | rflags::kNestedTask;
  if (operand_size != 2)
    mask |= rflags::kResume | rflags::kAlignmentCheck | rflags::kIdentification;
  if (cpu.cpl <= io_privilege(cpu)) mask |= rflags::kInterrupt;
  if (cpu.cpl == 0) {
    mask |= rflags::kIopl;
    if (operand_size != 2) mask |= rflags::kVirtualInterrupt | rflags::kVirtualInterruptPending;
  }
  return mask;
}

void return_outside_protection(Cpu& cpu, unsigned size) {
  if (cpu.virtual_8086 && io_privilege(cpu) < 3) Cpu::raise(Exception::general_protection());
  ReturnStack stack(cpu, size);
  const auto [offset, selector] = stack.pop_far_pointer();
  const uint64_t flags = stack.pop();

  const Segment& cs = cpu.system.segments[x86::kCs];
  const Segment segment =
      cpu.virtual_8086 ? virtual_8086_segment(selector) : real_mode_segment(cs, selector);
  const CodeTarget target{segment, checked_code_offset(cpu, segment, offset)};
  uint64_t mask = rflags::kArithmetic | rflags::kTrap | rflags::kInterrupt | rflags::kDirection |
                  rflags::kNestedTask;
  if (!cpu.virtual_8086) mask |= rflags::kIopl;
  if (size != 2) mask |= rflags::kResume | rflags::kAlignmentCheck | rflags::kIdentification;
  stack.commit();
  replace_flags(cpu, flags, mask);
  enter_code(cpu, target);
}

/// From ring 0 with VM set in the popped EFLAGS (SDM Vol. 3A 20.2.2).
void return_to_virtual_8086(Cpu& cpu, ReturnStack& stack, uint64_t offset, uint16_t cs,
                            uint64_t flags) {
  const uint64_t esp = stack.pop();
  std::array<uint16_t, 6> selectors{};
  selectors[x86::kCs] = cs;
  for (const uint8_t segment : {x86::kSs, x86::kEs, x86::kDs, x86::kFs, x86::kGs})
    selectors[segment] = stack.pop_selector();
  if (static_cast<uint16_t>(offset) != offset) Cpu::raise(Exception::general_protection());

  replace_flags(cpu, flags, ~uint64_t{0} & 0x3F7FD5);
  for (size_t i = 0; i < selectors.size(); ++i)
    cpu.system.segments[i] = virtual_8086_segment(selectors[i]);
  cpu.gpr[x86::kRsp] = static_cast<uint32_t>(esp);
  cpu.gpr[kNextRip] = offset;
  cpu.update_mode();
}

void return_protected(Cpu& cpu, unsigned size) {
  ReturnStack stack(cpu, size);
  const auto [offset, selector] = stack.pop_far_pointer();
  const uint64_t flags = stack.pop();
  if ((flags & rflags::kVirtual8086) && size == 4 && cpu.cpl == 0 && !cpu.long_mode)
    return return_to_virtual_8086(cpu, stack, offset, selector, flags);

  const Segment segment = checked_return_code_segment(cpu, selector);
  const unsigned new_cpl = selector & 3u;
  const uint64_t mask = changeable_flags(cpu, size);
  // 64-bit mode always has SS:RSP in the frame.
  if (new_cpl == cpu.cpl && cpu.mode != CodeMode::k64) {
    const CodeTarget code{segment, checked_code_offset(cpu, segment, offset)};
    stack.commit();
    replace_flags(cpu, flags, mask);
    return enter_code(cpu, code);
  }

  StackTarget target{.pointer = stack.pop(), .cpl = new_cpl};
  target.segment = checked_return_stack_segment(cpu, stack.pop_selector(), segment);
  target.flat = cpu.long_mode && segment.is_long();
  const CodeTarget code{segment, checked_code_offset(cpu, segment, offset)};
  const bool outward = new_cpl != cpu.cpl;
  replace_flags(cpu, flags, mask);
  enter_code_with_stack(cpu, code, target, target.pointer);
  if (outward) drop_inner_data_segments(cpu, new_cpl);
}

}  // namespace

void interrupt_return(Cpu& cpu, const Operation& operation) {
  if (!cpu.protected_mode) {
    return_outside_protection(cpu, operation.operand_size);
  } else if (cpu.flag(rflags::kNestedTask)) {
    if (cpu.long_mode) Cpu::raise(Exception::general_protection());
    return_to_previous_task(cpu);
  } else {
    return_protected(cpu, operation.operand_size);
  }
  cpu.activity.nmi_blocked = false;
}

}  // namespace limen::soft::interpret
