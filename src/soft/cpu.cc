#include "soft/cpu.h"

#include <algorithm>

namespace limen::soft {

using decode::CodeMode;
using namespace x86;  // NOLINT(google-build-using-namespace): this file is about those names

Cpu::Cpu(memory::GuestMemory& ram_, memory::IoSpace& ports_, memory::IoSpace& mmio_,
         const CpuidTable& cpuid_, vcpu::LocalInterruptController& interrupts_, CodeSharing* code,
         unsigned index)
    : mmu(ram_, mmio_, code, index),
      ram(ram_),
      ports(ports_),
      cpuid(cpuid_),
      interrupts(interrupts_) {
  mmu.set_code_write_signal(leave_block);
  mmu.set_attention(attention);
  if (const auto* sizes = cpuid.find(0x8000'0008, 0))
    mmu.configure(sizes->eax & 0xFF, (cpuid.answer(0x8000'0001, 0).edx >> 26 & 1) != 0);
  set_state(reset_state(cpuid.answer(1, 0).eax));
}

void Cpu::update_mode() {
  const auto& cs = system.segments[kCs];
  const auto& ss = system.segments[kSs];
  const bool pe = (system.cr0 & cr0::kProtection) != 0;
  virtual_8086 = pe && (flags_rest & rflags::kVirtual8086) != 0;
  protected_mode = pe && !virtual_8086;
  long_mode = (system.efer & efer::kLma) != 0;
  cpl = static_cast<uint8_t>(virtual_8086 ? 3 : pe ? ss.dpl() : 0);

  if (long_mode && cs.is_long()) {
    mode = CodeMode::k64;
    stack_mask = rip_mask = ~uint64_t{0};
  } else {
    mode = cs.default_big() ? CodeMode::k32 : CodeMode::k16;
    stack_mask = ss.default_big() ? 0xFFFFFFFF : 0xFFFF;
    // EIP is 32 bits wide in 16-bit code too: going past FFFFH meets the limit check, not a wrap.
    rip_mask = 0xFFFFFFFF;
  }
  mmu.set_mode({.cr0 = system.cr0,
                .cr3 = system.cr3,
                .cr4 = system.cr4,
                .efer = system.efer,
                .user = cpl == 3,
                .alignment_check = (flags_rest & rflags::kAlignmentCheck) != 0});
  leave_block = true;
}

void Cpu::set_debug(const vcpu::DebugRequest& request) {
  debugger.set(request);
  mmu.set_debugger_watchpoints(request.watchpoints);
}

CpuState Cpu::state() const {
  CpuState out;
  std::copy_n(gpr.begin(), 16, out.gpr.begin());
  out.rip = rip;
  out.rflags = rflags();
  out.system = system;
  out.vector = vector;
  out.activity = activity;
  return out;
}

void Cpu::set_state(const CpuState& in) {
  std::copy_n(in.gpr.begin(), 16, gpr.begin());
  gpr[interpret::kZeroRegister] = 0;
  gpr[interpret::kNextRip] = 0;
  rip = in.rip;
  set_rflags(in.rflags);
  system = in.system;
  vector = in.vector;
  activity = in.activity;
  interrupts.set_tsc_offset(system.tsc_offset);
  mmu.set_supervisor_keys(system.pkrs);
  mmu.set_watchpoints(system.dr);
  paravirtual.registers_changed(*this);
  update_mode();
  mmu.flush_all();
}

}  // namespace limen::soft
