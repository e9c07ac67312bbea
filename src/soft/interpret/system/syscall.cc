// SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, and the FS and GS base instructions
// (SDM Vol. 2B; APM Vol. 3 for AMD's forms; SDM Vol. 3A 5.8.7, 5.8.8).
#include "soft/interpret/debug.h"
#include "soft/interpret/operand.h"
#include "soft/interpret/system/features.h"
#include "soft/interpret/system/flags.h"
#include "soft/interpret/system/handlers.h"
#include "soft/interpret/system/segment.h"

namespace limen::soft::interpret {

using decode::CodeMode;
using x86::Exception;
namespace rflags = x86::rflags;

namespace {

void enter(Cpu& cpu, uint16_t code, uint16_t stack, unsigned dpl, bool is_long, uint64_t rip) {
  cpu.system.segments[x86::kCs] = flat_code_segment(code, dpl, is_long);
  cpu.system.segments[x86::kSs] = flat_stack_segment(stack, dpl);
  cpu.gpr[kNextRip] = rip;
  cpu.update_mode();
}

void require_syscall_enabled(const Cpu& cpu) {
  // Outside 64-bit mode the pair exists on AMD's processors only.
  if (!(cpu.system.efer & x86::efer::kSce) || (cpu.mode != CodeMode::k64 && !is_amd(cpu)))
    Cpu::raise(Exception::invalid_opcode());
}

/// SYSCALL and SYSRET outside IA-32e mode (APM Vol. 3 "SYSCALL", "SYSRET").
void legacy_system_call(Cpu& cpu) {
  const auto selector = static_cast<uint16_t>((cpu.system.star >> 32) & 0xFFFC);
  cpu.gpr[x86::kRcx] = static_cast<uint32_t>(cpu.gpr[kNextRip]);
  cpu.flags_rest &= ~(rflags::kInterrupt | rflags::kVirtual8086 | rflags::kResume);
  enter(cpu, selector, static_cast<uint16_t>(selector + 8), 0, false,
        static_cast<uint32_t>(cpu.system.star));
}

void legacy_system_return(Cpu& cpu) {
  const auto selector = static_cast<uint16_t>((cpu.system.star >> 48) | 3);
  replace_flags(cpu, rflags::kInterrupt, rflags::kInterrupt);
  enter(cpu, selector, static_cast<uint16_t>(selector + 8), 3, false,
        static_cast<uint32_t>(cpu.gpr[x86::kRcx]));
}

}  // namespace

void system_call(Cpu& cpu, const Operation&) {
  require_syscall_enabled(cpu);
  if (!cpu.protected_mode) Cpu::raise(Exception::invalid_opcode());
  if (!cpu.long_mode) return legacy_system_call(cpu);
  const auto selector = static_cast<uint16_t>((cpu.system.star >> 32) & 0xFFFC);
  const uint64_t entry = cpu.mode == CodeMode::k64 ? cpu.system.lstar : cpu.system.cstar;
  const uint64_t flags = cpu.rflags() & ~rflags::kResume;
  cpu.gpr[x86::kRcx] = cpu.gpr[kNextRip];
  cpu.gpr[x86::kR11] = flags;
  cpu.set_rflags(flags & ~cpu.system.fmask);
  enter(cpu, selector, static_cast<uint16_t>(selector + 8), 0, true, entry);
}

void system_return(Cpu& cpu, const Operation& operation) {
  require_syscall_enabled(cpu);
  if (!cpu.protected_mode || cpu.cpl != 0) Cpu::raise(Exception::general_protection());
  if (!cpu.long_mode) return legacy_system_return(cpu);
  const bool wide = operation.operand_size == 8;
  const uint64_t rip = wide ? cpu.gpr[x86::kRcx] : static_cast<uint32_t>(cpu.gpr[x86::kRcx]);
  // Intel faults here, in ring 0; AMD at the first fetch, in ring 3.
  if (!is_canonical(rip) && !is_amd(cpu)) Cpu::raise(Exception::general_protection());
  const uint64_t star = cpu.system.star >> 48;
  constexpr uint64_t kLoaded = 0x3C7FD7;
  const uint64_t before = cpu.flags_rest;
  cpu.set_rflags(cpu.gpr[x86::kR11] & kLoaded);
  enter(cpu, static_cast<uint16_t>((star + (wide ? 16 : 0)) | 3),
        static_cast<uint16_t>((star + 8) | 3), 3, wide, rip);
  if (cpu.flags_rest & ~before & rflags::kInterrupt) cpu.attention.call();
  if ((cpu.flags_rest & rflags::kTrap) != 0) {
    // Unlike IRET and POPF, which trap behind the next instruction, SYSRET looks at TF when it is
    // done: the step over a system call ends here.
    cpu.rip = rip;
    Cpu::raise({.vector = x86::Vector::kDebug, .debug_status = dr6::kSingleStep});
  }
}

void fast_system_call(Cpu& cpu, const Operation&) {
  if (cpu.long_mode && is_amd(cpu)) Cpu::raise(Exception::invalid_opcode());
  const auto selector = static_cast<uint16_t>(cpu.system.sysenter_cs & 0xFFFC);
  if (!(cpu.system.cr0 & x86::cr0::kProtection) || selector == 0)
    Cpu::raise(Exception::general_protection());
  cpu.flags_rest &= ~(rflags::kVirtual8086 | rflags::kInterrupt | rflags::kResume);
  const uint64_t mask = cpu.long_mode ? ~uint64_t{0} : 0xFFFFFFFF;
  cpu.gpr[x86::kRsp] = cpu.system.sysenter_esp & mask;
  enter(cpu, selector, static_cast<uint16_t>(selector + 8), 0, cpu.long_mode,
        cpu.system.sysenter_eip & mask);
}

void fast_system_return(Cpu& cpu, const Operation& operation) {
  if (cpu.long_mode && is_amd(cpu)) Cpu::raise(Exception::invalid_opcode());
  const auto selector = static_cast<uint16_t>(cpu.system.sysenter_cs & 0xFFFC);
  if (!cpu.protected_mode || cpu.cpl != 0 || selector == 0)
    Cpu::raise(Exception::general_protection());
  const bool wide = operation.operand_size == 8;
  const uint64_t mask = wide ? ~uint64_t{0} : 0xFFFFFFFF;
  const uint64_t rip = cpu.gpr[x86::kRdx] & mask;
  const uint64_t rsp = cpu.gpr[x86::kRcx] & mask;
  if (!is_canonical(rip) || !is_canonical(rsp)) Cpu::raise(Exception::general_protection());
  const auto code = static_cast<uint16_t>((selector + (wide ? 32 : 16)) | 3);
  cpu.gpr[x86::kRsp] = rsp;
  enter(cpu, code, static_cast<uint16_t>(code + 8), 3, wide, rip);
}

void swap_gs(Cpu& cpu, const Operation&) {
  if (cpu.mode != CodeMode::k64) Cpu::raise(Exception::invalid_opcode());
  if (cpu.cpl != 0) Cpu::raise(Exception::general_protection());
  std::swap(cpu.system.segments[x86::kGs].base, cpu.system.kernel_gs_base);
}

namespace {

void require_base_instructions(const Cpu& cpu) {
  if (cpu.mode != CodeMode::k64 || !(cpu.system.cr4 & x86::cr4::kFsgsbase))
    Cpu::raise(Exception::invalid_opcode());
}

void read_base(Cpu& cpu, const Operation& operation, uint8_t segment) {
  require_base_instructions(cpu);
  const uint64_t base = cpu.system.segments[segment].base;
  cpu.gpr[operation.rm] = operation.operand_size == 8 ? base : static_cast<uint32_t>(base);
}

void write_base(Cpu& cpu, const Operation& operation, uint8_t segment) {
  require_base_instructions(cpu);
  const uint64_t full = cpu.gpr[operation.rm];
  const uint64_t base = operation.operand_size == 8 ? full : static_cast<uint32_t>(full);
  if (!is_canonical(base)) Cpu::raise(Exception::general_protection());
  cpu.system.segments[segment].base = base;
}

}  // namespace

void read_fs_base(Cpu& cpu, const Operation& operation) { read_base(cpu, operation, x86::kFs); }
void read_gs_base(Cpu& cpu, const Operation& operation) { read_base(cpu, operation, x86::kGs); }
void write_fs_base(Cpu& cpu, const Operation& operation) { write_base(cpu, operation, x86::kFs); }
void write_gs_base(Cpu& cpu, const Operation& operation) { write_base(cpu, operation, x86::kGs); }

}  // namespace limen::soft::interpret
