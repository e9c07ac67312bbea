// RDMSR, WRMSR, CPUID, the time-stamp counter, HLT, hypercalls (SDM Vol. 2A, 2B).
#include "soft/interpret/operand.h"
#include "soft/interpret/system/cpuid.h"
#include "soft/interpret/system/features.h"
#include "soft/interpret/system/handlers.h"
#include "soft/interpret/system/msr.h"
#include "x86/kvm_paravirtual.h"

namespace limen::soft::interpret {

using x86::Exception;

namespace {

void require_ring_0(const Cpu& cpu) {
  if (cpu.cpl != 0) Cpu::raise(Exception::general_protection());
}

void require_tsc_access(const Cpu& cpu) {
  if (cpu.cpl != 0 && (cpu.system.cr4 & x86::cr4::kTsd))
    Cpu::raise(Exception::general_protection());
}

void set_pair(Cpu& cpu, uint64_t value) {
  set_register<uint32_t>(cpu, x86::kRax, static_cast<uint32_t>(value));
  set_register<uint32_t>(cpu, x86::kRdx, static_cast<uint32_t>(value >> 32));
}

}  // namespace

void read_model_specific(Cpu& cpu, const Operation&) {
  require_ring_0(cpu);
  uint64_t value = 0;
  if (!read_msr(cpu, static_cast<uint32_t>(cpu.gpr[x86::kRcx]), value))
    Cpu::raise(Exception::general_protection());
  set_pair(cpu, value);
}

void write_model_specific(Cpu& cpu, const Operation&) {
  require_ring_0(cpu);
  const uint64_t value = (cpu.gpr[x86::kRdx] << 32) | static_cast<uint32_t>(cpu.gpr[x86::kRax]);
  if (!write_msr(cpu, static_cast<uint32_t>(cpu.gpr[x86::kRcx]), value))
    Cpu::raise(Exception::general_protection());
}

void identify_processor(Cpu& cpu, const Operation&) {
  const x86::CpuidResult result = cpuid_answer(cpu, static_cast<uint32_t>(cpu.gpr[x86::kRax]),
                                               static_cast<uint32_t>(cpu.gpr[x86::kRcx]));
  set_register<uint32_t>(cpu, x86::kRax, result.eax);
  set_register<uint32_t>(cpu, x86::kRbx, result.ebx);
  set_register<uint32_t>(cpu, x86::kRcx, result.ecx);
  set_register<uint32_t>(cpu, x86::kRdx, result.edx);
}

void read_tsc(Cpu& cpu, const Operation&) {
  require_tsc_access(cpu);
  set_pair(cpu, cpu.guest_tsc());
}

void read_tsc_and_aux(Cpu& cpu, const Operation&) {
  if (!has_feature(cpu, Feature::kRdtscp)) Cpu::raise(Exception::invalid_opcode());
  require_tsc_access(cpu);
  set_pair(cpu, cpu.guest_tsc());
  set_register<uint32_t>(cpu, x86::kRcx, static_cast<uint32_t>(cpu.system.tsc_aux));
}

void read_processor_id(Cpu& cpu, const Operation& operation) {
  if (!has_feature(cpu, Feature::kRdpid)) Cpu::raise(Exception::invalid_opcode());
  set_register<uint64_t>(cpu, operation.rm, static_cast<uint32_t>(cpu.system.tsc_aux));
}

/// No performance counter is shown.
void read_performance_counter(Cpu&, const Operation&) {
  Cpu::raise(Exception::general_protection());
}

void halt(Cpu& cpu, const Operation&) {
  require_ring_0(cpu);
  cpu.activity.halted = true;
  cpu.leave_block = true;
}

/// VMCALL and VMMCALL: a guest that sees KVM's signature tries calls without asking whether there
/// are any, and runs the vendor's instruction or the other's.
void hypercall(Cpu& cpu, const Operation&) {
  namespace kvm = x86::kvm;
  if (cpu.cpuid.find(kvm::kFeatureLeaf, 0) == nullptr) Cpu::raise(Exception::invalid_opcode());
  const uint64_t number = cpu.gpr[x86::kRax] & (cpu.long_mode ? ~uint64_t{0} : 0xFFFF'FFFF);
  int64_t result = number == kvm::kPollInterruptsCall ? 0 : kvm::kNoSuchCall;
  if (cpu.cpl != 0) result = kvm::kNotPermitted;
  if (cpu.mode == decode::CodeMode::k64)
    cpu.gpr[x86::kRax] = static_cast<uint64_t>(result);
  else
    set_register<uint32_t>(cpu, x86::kRax, static_cast<uint32_t>(result));
}

}  // namespace limen::soft::interpret
