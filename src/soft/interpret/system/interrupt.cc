#include "soft/interpret/system/interrupt.h"

#include "soft/interpret/debug.h"
#include "soft/interpret/operand.h"
#include "soft/interpret/system/far_transfer.h"
#include "soft/interpret/system/flags.h"
#include "soft/interpret/system/frame.h"
#include "soft/interpret/system/segment.h"
#include "soft/interpret/system/task_switch.h"
#include "soft/trace.h"

namespace limen::soft::interpret {

using x86::Exception;
using x86::Segment;
using x86::Vector;
namespace rflags = x86::rflags;

namespace {

/// EXT bit of error codes raised during this delivery (SDM Vol. 3A 6.13).
uint32_t external_bit(const Event& event) { return event.kind == EventKind::kSoftware ? 0 : 1; }

[[noreturn]] void raise_gate(Vector fault, const Event& event) {
  constexpr uint32_t kIdt = 2;
  Cpu::raise(Exception::with_code(fault, event.vector * 8u | kIdt | external_bit(event)));
}

uint64_t pushed_flags(const Cpu& cpu, const Event& event) {
  // Every instruction that completes clears RF; the run loop does so in single steps only. What it
  // raises itself has RF as it is to be pushed.
  const bool exact = event.kind == EventKind::kException || debug_active(cpu);
  const uint64_t stale = exact ? 0 : rflags::kResume;
  return (cpu.rflags() & ~stale) | event.flags_set;
}

/// Real mode: the vector table holds far pointers (SDM Vol. 3A 20.1.4).
void enter_real(Cpu& cpu, const Event& event) {
  const uint32_t entry = event.vector * 4u;
  if (entry + 3 > cpu.system.idtr.limit) raise_gate(Vector::kGeneralProtection, event);
  const auto pointer =
      cpu.mmu.read_supervisor<uint32_t>(system_linear(cpu, cpu.system.idtr.base + entry));
  const StackTarget stack = StackTarget::current(cpu);
  PushFrame frame(2);
  frame.add(pushed_flags(cpu, event));
  frame.add(cpu.system.segments[x86::kCs].selector);
  frame.add(event.return_rip);
  frame.check(cpu, stack, 0);
  const CodeTarget target{
      real_mode_segment(cpu.system.segments[x86::kCs], static_cast<uint16_t>(pointer >> 16)),
      pointer & 0xFFFF};
  check_code_offset(cpu, target.segment, target.offset);
  store_stack_pointer(cpu, frame.write(cpu, stack), stack.mask());
  cpu.flags_rest &=
      ~(rflags::kTrap | rflags::kInterrupt | rflags::kAlignmentCheck | rflags::kResume);
  enter_code(cpu, target);
}

/// The gate, with type, privilege and presence checked. IA-32e mode has 16-byte gates.
Descriptor checked_gate(Cpu& cpu, const Event& event) {
  const uint32_t size = cpu.long_mode ? 16 : 8;
  const uint32_t entry = event.vector * size;
  if (entry + size - 1 > cpu.system.idtr.limit) raise_gate(Vector::kGeneralProtection, event);
  const uint64_t address = system_linear(cpu, cpu.system.idtr.base + entry);
  Descriptor gate{.low = cpu.mmu.read_supervisor<uint64_t>(address), .high = 0, .address = address};
  if (cpu.long_mode) gate.high = cpu.mmu.read_supervisor<uint64_t>(address + 8) & 0xFFFFFFFF;

  using namespace system_type;  // NOLINT(google-build-using-namespace)
  const unsigned type = gate.type();
  const bool known =
      gate.is_system() &&
      (type == kInterruptGate32 || type == kTrapGate32 ||
       (!cpu.long_mode && (type == kTaskGate || type == kInterruptGate16 || type == kTrapGate16)));
  if (!known) raise_gate(Vector::kGeneralProtection, event);
  if (event.kind == EventKind::kSoftware && gate.dpl() < cpu.cpl)
    raise_gate(Vector::kGeneralProtection, event);
  if (!gate.present()) raise_gate(Vector::kSegmentNotPresent, event);
  return gate;
}

/// The handler's code segment and the privilege level it runs at.
struct Handler {
  CodeTarget target;
  unsigned level = 0;
  uint16_t selector = 0;
  bool conforming = false;
};

Handler checked_handler(Cpu& cpu, const Descriptor& gate, const Event& event, bool wide) {
  const uint32_t external = external_bit(event);
  const uint16_t selector = gate.gate_selector();
  if (is_null(selector)) Cpu::raise(Exception::general_protection(external));
  Descriptor code = fetch_descriptor(cpu, selector, Vector::kGeneralProtection, external);
  if (!code.is_code() || code.dpl() > cpu.cpl ||
      (cpu.long_mode && (!code.is_long() || code.default_big())))
    raise_selector(Vector::kGeneralProtection, selector, external);
  const unsigned level = code.is_conforming() ? cpu.cpl : code.dpl();
  // Virtual-8086 code is left for ring 0 only (SDM Vol. 3A 20.3.1).
  if (cpu.virtual_8086 && level != 0)
    raise_selector(Vector::kGeneralProtection, selector, external);
  const Segment segment = make_code_segment(cpu, selector, code, level, external);
  return {.target = {segment, wide ? gate.gate_offset() : gate.gate_offset16()},
          .level = level,
          .selector = selector,
          .conforming = code.is_conforming()};
}

void clear_flags_on_entry(Cpu& cpu, const Descriptor& gate) {
  uint64_t clear = rflags::kTrap | rflags::kNestedTask | rflags::kResume | rflags::kVirtual8086;
  if ((gate.type() & 1) == 0) clear |= rflags::kInterrupt;  // interrupt gate, not trap gate
  cpu.flags_rest &= ~clear;
}

void enter_legacy(Cpu& cpu, const Event& event, const Descriptor& gate) {
  const uint32_t external = external_bit(event);
  const bool wide = gate.type() & 8;
  const Handler handler = checked_handler(cpu, gate, event, wide);
  const auto& segments = cpu.system.segments;
  const bool inward = cpu.virtual_8086 || handler.level < cpu.cpl;

  PushFrame frame(wide ? 4 : 2);
  if (cpu.virtual_8086)
    for (const uint8_t segment : {x86::kGs, x86::kFs, x86::kDs, x86::kEs})
      frame.add(segments[segment].selector);
  const StackTarget stack =
      inward ? inner_stack(cpu, handler.level, external) : StackTarget::current(cpu);
  if (inward) {
    frame.add(segments[x86::kSs].selector);
    frame.add(cpu.gpr[x86::kRsp]);
  }
  frame.add(pushed_flags(cpu, event));
  frame.add(segments[x86::kCs].selector);
  frame.add(event.return_rip);
  if (event.error_code) frame.add(*event.error_code);
  frame.check(cpu, stack, inward ? (stack.segment.selector & 0xFFFCu) | external : external);
  check_code_offset(cpu, handler.target.segment, handler.target.offset, external);

  const uint64_t pointer = frame.write(cpu, stack);
  if (cpu.virtual_8086)
    for (const uint8_t segment : {x86::kGs, x86::kFs, x86::kDs, x86::kEs})
      cpu.system.segments[segment] = null_segment(0);
  clear_flags_on_entry(cpu, gate);
  enter_code_with_stack(cpu, handler.target, stack, pointer);
}

/// The stack that IA-32e mode switches to (SDM Vol. 3A 6.14.2, 6.14.5).
StackTarget long_mode_stack(Cpu& cpu, const Descriptor& gate, unsigned level, uint32_t external) {
  StackTarget stack;
  if (const unsigned ist = gate.interrupt_stack(); ist != 0) {
    const uint64_t offset = 28 + uint64_t{ist} * 8;
    if (offset + 7 > cpu.system.tr.limit)
      raise_selector(Vector::kInvalidTss, cpu.system.tr.selector, external);
    stack.pointer = cpu.mmu.read_supervisor<uint64_t>(cpu.system.tr.base + offset);
  } else if (level < cpu.cpl) {
    stack = inner_stack(cpu, level, external);
  } else {
    stack.pointer = cpu.gpr[x86::kRsp];
  }
  stack.cpl = level;
  stack.flat = true;
  stack.segment = level < cpu.cpl ? null_segment(static_cast<uint16_t>(level), level)
                                  : cpu.system.segments[x86::kSs];
  if (!is_canonical(stack.pointer)) Cpu::raise(Exception::with_code(Vector::kStackFault, external));
  stack.pointer &= ~uint64_t{15};
  return stack;
}

void enter_long(Cpu& cpu, const Event& event, const Descriptor& gate) {
  const uint32_t external = external_bit(event);
  const Handler handler = checked_handler(cpu, gate, event, true);
  const StackTarget stack = long_mode_stack(cpu, gate, handler.level, external);
  PushFrame frame(8);
  frame.add(cpu.system.segments[x86::kSs].selector);
  frame.add(cpu.gpr[x86::kRsp]);
  frame.add(pushed_flags(cpu, event));
  frame.add(cpu.system.segments[x86::kCs].selector);
  frame.add(event.return_rip);
  if (event.error_code) frame.add(*event.error_code);
  frame.check(cpu, stack, external);
  check_code_offset(cpu, handler.target.segment, handler.target.offset, external);

  const uint64_t pointer = frame.write(cpu, stack);
  clear_flags_on_entry(cpu, gate);
  enter_code_with_stack(cpu, handler.target, stack, pointer);
}

}  // namespace

void enter_handler(Cpu& cpu, const Event& event) {
  if (cpu.traces_interrupts) [[unlikely]]
    cpu.trace->interrupt(cpu, event.vector, event.kind == EventKind::kSoftware, event.error_code,
                         event.return_rip);
  if (!cpu.protected_mode && !cpu.virtual_8086) return enter_real(cpu, event);
  const Descriptor gate = checked_gate(cpu, event);
  if (cpu.long_mode) return enter_long(cpu, event, gate);
  if (gate.type() == system_type::kTaskGate)
    return switch_task_through_gate(cpu, gate, TaskSwitchCause::kInterrupt, event.return_rip,
                                    event.flags_set, event.error_code, external_bit(event));
  enter_legacy(cpu, event, gate);
}

}  // namespace limen::soft::interpret
