#include "kvm/state/registers.h"

#include <array>

#include "x86/registers.h"

namespace limen::kvm {
namespace {

using x86::Segment;

/// Where the kernel keeps each general register, in the order of x86::Gpr.
constexpr std::array kGeneral = {&kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx,
                                 &kvm_regs::rsp, &kvm_regs::rbp, &kvm_regs::rsi, &kvm_regs::rdi,
                                 &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
                                 &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

/// Segment registers in the order of x86::SegmentRegister.
constexpr std::array kSegments = {&kvm_sregs::es, &kvm_sregs::cs, &kvm_sregs::ss,
                                  &kvm_sregs::ds, &kvm_sregs::fs, &kvm_sregs::gs};

uint8_t bit(uint16_t attributes, uint16_t mask) { return (attributes & mask) != 0 ? 1 : 0; }

constexpr uint16_t kAvailable = 1u << 12;

kvm_dtable to_kernel(const x86::DescriptorTableRegister& table) {
  kvm_dtable out{};
  out.base = table.base;
  out.limit = table.limit;
  return out;
}

}  // namespace

kvm_segment to_kernel(const Segment& segment) {
  const uint16_t attributes = segment.attributes;
  kvm_segment out{};
  out.base = segment.base;
  out.limit = segment.limit;
  out.selector = segment.selector;
  out.type = static_cast<uint8_t>(segment.type());
  out.present = bit(attributes, Segment::kPresent);
  out.dpl = static_cast<uint8_t>(segment.dpl());
  out.db = bit(attributes, Segment::kDefaultBig);
  out.s = bit(attributes, Segment::kNotSystem);
  out.l = bit(attributes, Segment::kLong);
  out.g = bit(attributes, Segment::kGranularity);
  out.avl = bit(attributes, kAvailable);
  out.unusable = out.present != 0 ? 0 : 1;
  return out;
}

Segment from_kernel(const kvm_segment& segment) {
  Segment out;
  out.base = segment.base;
  out.limit = segment.limit;
  out.selector = segment.selector;
  const unsigned attributes = (segment.type & Segment::kTypeMask) | (segment.s & 1u) << 4 |
                              (segment.dpl & 3u) << 5 | (segment.avl & 1u) << 12 |
                              (segment.l & 1u) << 13 | (segment.db & 1u) << 14 |
                              (segment.g & 1u) << 15;
  out.attributes = static_cast<uint16_t>(attributes);
  if (segment.present != 0 && segment.unusable == 0) out.attributes |= Segment::kPresent;
  return out;
}

kvm_regs general_registers(const x86::CpuState& state) {
  kvm_regs regs{};
  for (size_t i = 0; i < kGeneral.size(); ++i) regs.*kGeneral[i] = state.gpr[i];
  regs.rip = state.rip;
  regs.rflags = state.rflags;
  return regs;
}

void take_general_registers(const kvm_regs& from, x86::CpuState& state) {
  for (size_t i = 0; i < kGeneral.size(); ++i) state.gpr[i] = from.*kGeneral[i];
  state.rip = from.rip;
  state.rflags = from.rflags;
}

void fill_system_registers(const x86::SystemState& system, kvm_sregs& into) {
  for (size_t i = 0; i < kSegments.size(); ++i) into.*kSegments[i] = to_kernel(system.segments[i]);
  into.ldt = to_kernel(system.ldtr);
  into.tr = to_kernel(system.tr);
  into.gdt = to_kernel(system.gdtr);
  into.idt = to_kernel(system.idtr);
  into.cr0 = system.cr0;
  into.cr2 = system.cr2;
  into.cr3 = system.cr3;
  into.cr4 = system.cr4;
  into.efer = system.efer;
}

void take_system_registers(const kvm_sregs& from, x86::SystemState& system) {
  for (size_t i = 0; i < kSegments.size(); ++i)
    system.segments[i] = from_kernel(from.*kSegments[i]);
  system.ldtr = from_kernel(from.ldt);
  system.tr = from_kernel(from.tr);
  system.gdtr = {from.gdt.base, from.gdt.limit};
  system.idtr = {from.idt.base, from.idt.limit};
  system.cr0 = from.cr0;
  system.cr2 = from.cr2;
  system.cr3 = from.cr3;
  system.cr4 = from.cr4;
  system.efer = from.efer;
}

kvm_debugregs debug_registers(const x86::SystemState& system) {
  kvm_debugregs out{};
  for (size_t i = 0; i < 4; ++i) out.db[i] = system.dr[i];
  out.dr6 = system.dr[6];
  out.dr7 = system.dr[7];
  return out;
}

void take_debug_registers(const kvm_debugregs& from, x86::SystemState& system) {
  for (size_t i = 0; i < 4; ++i) system.dr[i] = from.db[i];
  system.dr[6] = from.dr6;
  system.dr[7] = from.dr7;
}

}  // namespace limen::kvm
