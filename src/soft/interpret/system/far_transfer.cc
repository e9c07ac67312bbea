// Far JMP, CALL and RET (SDM Vol. 2A "JMP", "CALL", Vol. 2B "RET").
#include "soft/interpret/system/far_transfer.h"

#include "soft/interpret/operand.h"
#include "soft/interpret/stack.h"
#include "soft/interpret/system/handlers.h"
#include "soft/interpret/system/return_stack.h"
#include "soft/interpret/system/segment.h"
#include "soft/interpret/system/task_switch.h"

namespace limen::soft::interpret {

using decode::CodeMode;
using x86::Exception;
using x86::Segment;
using x86::Vector;

void check_code_offset(const Cpu& cpu, const Segment& segment, uint64_t offset, uint32_t external) {
  const bool fits =
      cpu.long_mode && segment.is_long() ? is_canonical(offset) : offset <= segment.limit;
  if (!fits) Cpu::raise(Exception::general_protection(external));
}

uint64_t checked_code_offset(const Cpu& cpu, const Segment& segment, uint64_t offset) {
  if (cpu.long_mode && !segment.is_long()) offset = static_cast<uint32_t>(offset);
  check_code_offset(cpu, segment, offset);
  return offset;
}

Segment make_code_segment(Cpu& cpu, uint16_t selector, Descriptor& descriptor, unsigned cpl,
                          uint32_t external) {
  if (!descriptor.present()) raise_selector(Vector::kSegmentNotPresent, selector, external);
  if (cpu.long_mode && descriptor.is_long() && descriptor.default_big())
    raise_selector(Vector::kGeneralProtection, selector, external);
  mark_accessed(cpu, descriptor);
  return make_segment(static_cast<uint16_t>((selector & ~3u) | cpl), descriptor);
}

void enter_code(Cpu& cpu, const CodeTarget& target) {
  cpu.system.segments[x86::kCs] = target.segment;
  cpu.gpr[kNextRip] = target.offset;
  cpu.update_mode();
}

void enter_code_with_stack(Cpu& cpu, const CodeTarget& target, const StackTarget& stack,
                           uint64_t stack_pointer) {
  cpu.system.segments[x86::kSs] = stack.segment;
  store_stack_pointer(cpu, stack_pointer, stack.mask());
  enter_code(cpu, target);
}

namespace {

void push_return_address(PushFrame& frame, const Cpu& cpu) {
  frame.add(cpu.system.segments[x86::kCs].selector);
  frame.add(cpu.gpr[kNextRip]);
}

/// Pushes CS:RIP on the current stack if this is a call, then goes there.
void transfer(Cpu& cpu, const Segment& segment, uint64_t offset, unsigned operand_size,
              bool is_call) {
  if (!is_call) return enter_code(cpu, {segment, checked_code_offset(cpu, segment, offset)});
  const StackTarget stack = StackTarget::current(cpu);
  PushFrame frame(operand_size);
  push_return_address(frame, cpu);
  frame.check(cpu, stack, 0);
  const CodeTarget target{segment, checked_code_offset(cpu, segment, offset)};
  store_stack_pointer(cpu, frame.write(cpu, stack), stack.mask());
  enter_code(cpu, target);
}

void transfer_to_system_descriptor(Cpu& cpu, uint16_t selector, const Descriptor& descriptor,
                                   bool is_call) {
  using namespace system_type;  // NOLINT(google-build-using-namespace)
  const TaskSwitchCause cause = is_call ? TaskSwitchCause::kCall : TaskSwitchCause::kJump;
  const bool privileged = descriptor.dpl() >= cpu.cpl && descriptor.dpl() >= (selector & 3u);
  switch (descriptor.type()) {
    case kCallGate32:
      return transfer_through_call_gate(cpu, selector, descriptor, is_call);
    case kCallGate16:
      if (cpu.long_mode) break;
      return transfer_through_call_gate(cpu, selector, descriptor, is_call);
    case kTaskGate:
      if (cpu.long_mode || !privileged) break;
      if (!descriptor.present()) raise_selector(Vector::kSegmentNotPresent, selector);
      return switch_task_through_gate(cpu, descriptor, cause, cpu.gpr[kNextRip]);
    case kTss16Available:
    case kTss32Available:
      if (cpu.long_mode || !privileged) break;
      return switch_task(cpu, {.selector = selector,
                               .descriptor = descriptor,
                               .cause = cause,
                               .return_rip = cpu.gpr[kNextRip]});
    default:
      break;
  }
  raise_selector(Vector::kGeneralProtection, selector);
}

}  // namespace

void far_transfer(Cpu& cpu, uint16_t selector, uint64_t offset, unsigned operand_size,
                  bool is_call) {
  if (!cpu.protected_mode) {
    const Segment& cs = cpu.system.segments[x86::kCs];
    const Segment segment =
        cpu.virtual_8086 ? virtual_8086_segment(selector) : real_mode_segment(cs, selector);
    return transfer(cpu, segment, offset, operand_size, is_call);
  }

  if (is_null(selector)) Cpu::raise(Exception::general_protection());
  Descriptor descriptor = fetch_descriptor(cpu, selector);
  if (descriptor.is_system())
    return transfer_to_system_descriptor(cpu, selector, descriptor, is_call);
  const bool reachable =
      descriptor.is_code() &&
      (descriptor.is_conforming() ? descriptor.dpl() <= cpu.cpl
                                  : (selector & 3u) <= cpu.cpl && descriptor.dpl() == cpu.cpl);
  if (!reachable) raise_selector(Vector::kGeneralProtection, selector);
  const Segment segment = make_code_segment(cpu, selector, descriptor, cpu.cpl);
  transfer(cpu, segment, offset, operand_size, is_call);
}

namespace {

struct FarPointer {
  uint16_t selector;
  uint64_t offset;
};

FarPointer far_pointer_operand(Cpu& cpu, const Operation& operation) {
  if (!(operation.flags & Operation::kMemory))
    return {static_cast<uint16_t>(operation.immediate >> 32),
            static_cast<uint32_t>(operation.immediate)};
  const unsigned size = operation.operand_size;
  const uint64_t linear = operand_linear(cpu, operation, size + 2, AccessKind::kRead);
  const uint64_t offset = size == 2   ? cpu.mmu.read<uint16_t>(linear)
                          : size == 4 ? cpu.mmu.read<uint32_t>(linear)
                                      : cpu.mmu.read<uint64_t>(linear);
  return {cpu.mmu.read<uint16_t>(linear + size), offset};
}

}  // namespace

void jump_far(Cpu& cpu, const Operation& operation) {
  const FarPointer pointer = far_pointer_operand(cpu, operation);
  far_transfer(cpu, pointer.selector, pointer.offset, operation.operand_size, false);
}

void call_far(Cpu& cpu, const Operation& operation) {
  const FarPointer pointer = far_pointer_operand(cpu, operation);
  far_transfer(cpu, pointer.selector, pointer.offset, operation.operand_size, true);
}

void return_far(Cpu& cpu, const Operation& operation) {
  const unsigned size = operation.operand_size;
  const uint64_t released = operation.immediate & 0xFFFF;
  ReturnStack stack(cpu, size);
  const auto [offset, selector] = stack.pop_far_pointer();
  stack.release(released);

  if (!cpu.protected_mode) {
    const Segment& cs = cpu.system.segments[x86::kCs];
    const Segment segment =
        cpu.virtual_8086 ? virtual_8086_segment(selector) : real_mode_segment(cs, selector);
    const CodeTarget target{segment, checked_code_offset(cpu, segment, offset)};
    stack.commit();
    return enter_code(cpu, target);
  }

  const Segment segment = checked_return_code_segment(cpu, selector);
  const unsigned new_cpl = selector & 3u;
  if (new_cpl == cpu.cpl) {
    const CodeTarget target{segment, checked_code_offset(cpu, segment, offset)};
    stack.commit();
    return enter_code(cpu, target);
  }
  StackTarget outer{.pointer = stack.pop(), .cpl = new_cpl};
  outer.segment = checked_return_stack_segment(cpu, stack.pop_selector(), segment);
  outer.flat = cpu.long_mode && segment.is_long();
  const CodeTarget target{segment, checked_code_offset(cpu, segment, offset)};
  enter_code_with_stack(cpu, target, outer, outer.pointer + released);
  drop_inner_data_segments(cpu, new_cpl);
}

}  // namespace limen::soft::interpret
