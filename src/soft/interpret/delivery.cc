#include "soft/interpret/delivery.h"

#include "soft/interpret/debug.h"
#include "soft/interpret/system/interrupt.h"
#include "x86/registers.h"

namespace limen::soft::interpret {

using x86::Exception;
using x86::Vector;

namespace {

enum class FaultClass { kBenign, kContributory, kPageFault };

/// SDM Vol. 3A table 6-4.
FaultClass class_of(Vector vector) {
  switch (vector) {
    case Vector::kDivideError:
    case Vector::kInvalidTss:
    case Vector::kSegmentNotPresent:
    case Vector::kStackFault:
    case Vector::kGeneralProtection:
      return FaultClass::kContributory;
    case Vector::kPageFault:
      return FaultClass::kPageFault;
    default:
      return FaultClass::kBenign;
  }
}

/// SDM Vol. 3A table 6-5.
bool makes_double_fault(Vector first, Vector second) {
  const FaultClass a = class_of(first);
  const FaultClass b = class_of(second);
  if (a == FaultClass::kContributory) return b == FaultClass::kContributory;
  return a == FaultClass::kPageFault && b != FaultClass::kBenign;
}

/// Faults push RF set, so that an instruction breakpoint does not hit twice; traps, and #DB of
/// whatever kind, push it as it stands (SDM Vol. 3B 17.3.1.1).
bool pushes_resume_flag(Vector vector) {
  return vector != Vector::kDebug && vector != Vector::kBreakpoint && vector != Vector::kOverflow &&
         vector != Vector::kNmi;
}

void record(Cpu& cpu, const Exception& exception) {
  if (exception.vector == Vector::kPageFault) cpu.system.cr2 = exception.fault_address;
  if (exception.vector == Vector::kDebug) record_debug_exception(cpu, exception.debug_status);
}

/// The event's effects outside the frame: what delays interrupts is over, HLT ends.
void wake(Cpu& cpu) {
  cpu.activity.halted = false;
  cpu.activity.sti_shadow = false;
  cpu.activity.mov_ss_shadow = false;
}

}  // namespace

bool deliver_exception(Cpu& cpu, const Exception& exception) {
  Exception current = exception;
  wake(cpu);
  for (;;) {
    record(cpu, current);
    Event event{.vector = static_cast<uint8_t>(current.vector),
                .kind = current.vector == Vector::kBreakpoint || current.vector == Vector::kOverflow
                            ? EventKind::kSoftware
                            : EventKind::kException,
                .return_rip = cpu.rip};
    if (current.has_error_code) event.error_code = current.error_code;
    if (pushes_resume_flag(current.vector)) event.flags_set = x86::rflags::kResume;
    try {
      enter_handler(cpu, event);
      cpu.rip = cpu.gpr[kNextRip];
      return true;
    } catch (const Exception& second) {
      // A page fault leaves its address even where it becomes a double fault.
      if (second.vector == Vector::kPageFault) cpu.system.cr2 = second.fault_address;
      if (current.vector == Vector::kDoubleFault && class_of(second.vector) != FaultClass::kBenign)
        return false;
      current = makes_double_fault(current.vector, second.vector)
                    ? Exception::with_code(Vector::kDoubleFault, 0)
                    : second;
    }
  }
}

bool deliver_interrupt(Cpu& cpu, uint8_t vector) {
  wake(cpu);
  try {
    enter_handler(cpu, {.vector = vector, .kind = EventKind::kExternal, .return_rip = cpu.rip});
    cpu.rip = cpu.gpr[kNextRip];
  } catch (const Exception& fault) {
    return deliver_exception(cpu, fault);
  }
  if (vector == static_cast<uint8_t>(Vector::kNmi)) cpu.activity.nmi_blocked = true;
  return true;
}

void apply_init(Cpu& cpu) {
  const x86::CpuidResult* version = cpu.cpuid.find(1, 0);
  constexpr uint64_t kBootstrapProcessor = 1u << 8;
  uint64_t apic_base = kBootstrapProcessor;
  static_cast<void>(cpu.interrupts.read_msr(x86::msr::kApicBase, apic_base));
  cpu.set_state(x86::state_after_init(cpu.state(), version != nullptr ? version->eax : 0,
                                      (apic_base & kBootstrapProcessor) != 0));
  debug_registers_changed(cpu);
}

void apply_startup(Cpu& cpu, uint8_t vector) {
  if (!cpu.activity.wait_for_sipi) return;
  x86::CpuState state = cpu.state();
  x86::start_up(state, vector);
  cpu.set_state(state);
}

}  // namespace limen::soft::interpret
