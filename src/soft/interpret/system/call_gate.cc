// Call gates and the inner stacks of the running task (SDM Vol. 3A 5.8.3 to 5.8.5, 7.2.1, 7.7).
#include "soft/interpret/operand.h"
#include "soft/interpret/stack.h"
#include "soft/interpret/system/far_transfer.h"
#include "soft/interpret/system/segment.h"

namespace limen::soft::interpret {

using x86::Exception;
using x86::Segment;
using x86::Vector;

StackTarget inner_stack(Cpu& cpu, unsigned level, uint32_t external) {
  const Segment& tr = cpu.system.tr;
  const auto require = [&](uint64_t last) {
    if (last > tr.limit) raise_selector(Vector::kInvalidTss, tr.selector, external);
  };
  const auto at = [&](uint64_t offset) { return system_linear(cpu, tr.base + offset); };

  if (cpu.long_mode) {
    const uint64_t offset = 4 + uint64_t{level} * 8;
    require(offset + 7);
    return {.segment = null_segment(static_cast<uint16_t>(level), level),
            .pointer = cpu.mmu.read_supervisor<uint64_t>(at(offset)),
            .cpl = level,
            .flat = true};
  }
  StackTarget stack{.cpl = level};
  uint16_t selector = 0;
  if (tr.type() == system_type::kTss32Available || tr.type() == system_type::kTss32Busy) {
    const uint64_t offset = 4 + uint64_t{level} * 8;
    require(offset + 5);
    stack.pointer = cpu.mmu.read_supervisor<uint32_t>(at(offset));
    selector = cpu.mmu.read_supervisor<uint16_t>(at(offset + 4));
  } else {
    const uint64_t offset = 2 + uint64_t{level} * 4;
    require(offset + 3);
    stack.pointer = cpu.mmu.read_supervisor<uint16_t>(at(offset));
    selector = cpu.mmu.read_supervisor<uint16_t>(at(offset + 2));
  }
  stack.segment = checked_stack_segment(cpu, selector, level, Vector::kInvalidTss, external);
  return stack;
}

namespace {

/// The parameters of a 16- or 32-bit gate, in the order in which they are pushed again.
void copy_parameters(Cpu& cpu, PushFrame& frame, unsigned count, unsigned width) {
  for (unsigned i = count; i-- > 0;)
    frame.add(width == 2 ? peek<uint16_t>(cpu, uint64_t{i} * 2)
                         : peek<uint32_t>(cpu, uint64_t{i} * 4));
}

unsigned gate_width(const Cpu& cpu, const Descriptor& gate) {
  if (cpu.long_mode) return 8;
  return gate.type() == system_type::kCallGate32 ? 4 : 2;
}

void call_inner(Cpu& cpu, const CodeTarget& target, const Descriptor& gate, unsigned level) {
  const unsigned width = gate_width(cpu, gate);
  const StackTarget stack = inner_stack(cpu, level, 0);
  PushFrame frame(width);
  frame.add(cpu.system.segments[x86::kSs].selector);
  frame.add(cpu.gpr[x86::kRsp]);
  if (!cpu.long_mode) copy_parameters(cpu, frame, gate.parameter_count(), width);
  frame.add(cpu.system.segments[x86::kCs].selector);
  frame.add(cpu.gpr[kNextRip]);
  frame.check(cpu, stack, cpu.long_mode ? 0 : stack.segment.selector & 0xFFFCu);
  check_code_offset(cpu, target.segment, target.offset);
  enter_code_with_stack(cpu, target, stack, frame.write(cpu, stack));
}

}  // namespace

void transfer_through_call_gate(Cpu& cpu, uint16_t selector, Descriptor gate, bool is_call) {
  if (gate.dpl() < cpu.cpl || gate.dpl() < (selector & 3u))
    raise_selector(Vector::kGeneralProtection, selector);
  if (!gate.present()) raise_selector(Vector::kSegmentNotPresent, selector);
  fetch_upper_half(cpu, selector, gate);

  const uint16_t code_selector = gate.gate_selector();
  if (is_null(code_selector)) Cpu::raise(Exception::general_protection());
  Descriptor code = fetch_descriptor(cpu, code_selector);
  const bool same_level_only = !is_call && !code.is_conforming();
  if (!code.is_code() || code.dpl() > cpu.cpl || (same_level_only && code.dpl() != cpu.cpl) ||
      (cpu.long_mode && (!code.is_long() || code.default_big())))
    raise_selector(Vector::kGeneralProtection, code_selector);

  const unsigned width = gate_width(cpu, gate);
  const unsigned level = code.is_conforming() ? cpu.cpl : code.dpl();
  const CodeTarget target{make_code_segment(cpu, code_selector, code, level),
                          width == 2 ? gate.gate_offset16() : gate.gate_offset()};
  if (level < cpu.cpl) return call_inner(cpu, target, gate, level);

  check_code_offset(cpu, target.segment, target.offset);
  if (is_call) {
    StackTarget stack = StackTarget::current(cpu);
    stack.flat = cpu.long_mode;  // the gate leads to 64-bit code
    PushFrame frame(width);
    frame.add(cpu.system.segments[x86::kCs].selector);
    frame.add(cpu.gpr[kNextRip]);
    frame.check(cpu, stack, 0);
    store_stack_pointer(cpu, frame.write(cpu, stack), stack.mask());
  }
  enter_code(cpu, target);
}

}  // namespace limen::soft::interpret
