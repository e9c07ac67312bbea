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
  x86::CpuState fresh = x86::reset_state(version != nullptr ? version->eax : 0);
  // Unlike RESET, INIT keeps the caches' control, the vector state and the MSRs (table 9-1).
  const x86::CpuState old = cpu.state();
  x86::SystemState system = old.system;
  system.segments = fresh.system.segments;
  system.ldtr = fresh.system.ldtr;
  system.tr = fresh.system.tr;
  system.gdtr = fresh.system.gdtr;
  system.idtr = fresh.system.idtr;
  constexpr uint64_t kKept = x86::cr0::kCacheDisable | x86::cr0::kNotWriteThrough;
  system.cr0 = (old.system.cr0 & kKept) | x86::cr0::kExtensionType;
  system.cr2 = system.cr3 = system.cr4 = 0;
  system.efer = 0;
  system.dr = fresh.system.dr;
  // A kernel that is started by INIT knows nothing of the pages of the one before.
  system.kvm_wall_clock = system.kvm_system_time = system.kvm_steal_time = 0;
  fresh.system = system;
  fresh.vector = old.vector;
  // Application processors then wait for a start-up IPI; the bootstrap processor starts anew
  // (SDM Vol. 3A 8.4.3).
  constexpr uint64_t kBootstrapProcessor = 1u << 8;
  uint64_t apic_base = 0;
  fresh.activity.wait_for_sipi = cpu.interrupts.read_msr(x86::msr::kApicBase, apic_base) &&
                                 (apic_base & kBootstrapProcessor) == 0;
  cpu.set_state(fresh);
  debug_registers_changed(cpu);
}

void apply_startup(Cpu& cpu, uint8_t vector) {
  if (!cpu.activity.wait_for_sipi) return;
  x86::Segment& cs = cpu.system.segments[x86::kCs];
  cs.selector = static_cast<uint16_t>(vector << 8);
  cs.base = uint64_t{vector} << 12;
  cpu.rip = 0;
  cpu.activity.wait_for_sipi = false;
  cpu.activity.halted = false;
  cpu.update_mode();
}

}  // namespace limen::soft::interpret
