// LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR (SDM Vol. 2A, 2B; Vol. 3A 2.4).
#include "soft/interpret/operand.h"
#include "soft/interpret/system/descriptor.h"
#include "soft/interpret/system/handlers.h"
#include "soft/interpret/system/segment.h"

namespace limen::soft::interpret {

using decode::CodeMode;
using x86::DescriptorTableRegister;
using x86::Exception;
using x86::Segment;
using x86::Vector;

namespace {

void require_ring_0(const Cpu& cpu) {
  if (cpu.cpl != 0) Cpu::raise(Exception::general_protection());
}

/// CR4.UMIP keeps the stores from user mode.
void require_umip_clear(const Cpu& cpu) {
  if (cpu.cpl != 0 && (cpu.system.cr4 & x86::cr4::kUmip))
    Cpu::raise(Exception::general_protection());
}

void require_protected_mode(const Cpu& cpu) {
  if (!cpu.protected_mode) Cpu::raise(Exception::invalid_opcode());
}

void load_table(Cpu& cpu, const Operation& operation, DescriptorTableRegister& table) {
  require_ring_0(cpu);
  const bool wide = cpu.mode == CodeMode::k64;
  const uint64_t linear = operand_linear(cpu, operation, wide ? 10 : 6, AccessKind::kRead);
  const auto limit = cpu.mmu.read<uint16_t>(linear);
  uint64_t base = wide ? cpu.mmu.read<uint64_t>(linear + 2) : cpu.mmu.read<uint32_t>(linear + 2);
  if (!wide && operation.operand_size == 2) base &= 0xFFFFFF;
  if (!is_canonical(base)) Cpu::raise(Exception::general_protection());
  table = {.base = base, .limit = limit};
}

void store_table(Cpu& cpu, const Operation& operation, const DescriptorTableRegister& table) {
  require_umip_clear(cpu);
  const bool wide = cpu.mode == CodeMode::k64;
  const unsigned size = wide ? 10 : 6;
  const uint64_t linear = operand_linear(cpu, operation, size, AccessKind::kWrite);
  cpu.mmu.probe_write(linear, size);
  cpu.mmu.write<uint16_t>(linear, table.limit);
  if (wide)
    cpu.mmu.write<uint64_t>(linear + 2, table.base);
  else
    cpu.mmu.write<uint32_t>(linear + 2, static_cast<uint32_t>(table.base));
}

uint16_t selector_operand(Cpu& cpu, const Operation& operation) {
  return (operation.flags & Operation::kMemory)
             ? cpu.mmu.read<uint16_t>(operand_linear(cpu, operation, 2, AccessKind::kRead))
             : get_register<uint16_t>(cpu, operation.rm);
}

void store_selector(Cpu& cpu, const Operation& operation, uint16_t selector) {
  require_protected_mode(cpu);
  require_umip_clear(cpu);
  if (operation.flags & Operation::kMemory)
    cpu.mmu.write<uint16_t>(operand_linear(cpu, operation, 2, AccessKind::kWrite), selector);
  else if (operation.operand_size == 2)
    set_register<uint16_t>(cpu, operation.rm, selector);
  else
    set_register<uint64_t>(cpu, operation.rm, selector);
}

/// Reads the descriptor of an LDT or TSS with the checks that LLDT and LTR share.
Descriptor system_segment(Cpu& cpu, uint16_t selector) {
  if (selector & 4) raise_selector(Vector::kGeneralProtection, selector);
  return fetch_descriptor(cpu, selector);
}

void complete_system_segment(Cpu& cpu, uint16_t selector, Descriptor& descriptor) {
  if (!descriptor.present()) raise_selector(Vector::kSegmentNotPresent, selector);
  fetch_upper_half(cpu, selector, descriptor);
  if (!is_canonical(descriptor.base())) raise_selector(Vector::kGeneralProtection, selector);
}

}  // namespace

void load_gdtr(Cpu& cpu, const Operation& operation) {
  load_table(cpu, operation, cpu.system.gdtr);
}
void load_idtr(Cpu& cpu, const Operation& operation) {
  load_table(cpu, operation, cpu.system.idtr);
}
void store_gdtr(Cpu& cpu, const Operation& operation) {
  store_table(cpu, operation, cpu.system.gdtr);
}
void store_idtr(Cpu& cpu, const Operation& operation) {
  store_table(cpu, operation, cpu.system.idtr);
}

void load_ldtr(Cpu& cpu, const Operation& operation) {
  require_protected_mode(cpu);
  require_ring_0(cpu);
  const uint16_t selector = selector_operand(cpu, operation);
  if (is_null(selector)) {
    cpu.system.ldtr = null_segment(selector);
    return;
  }
  Descriptor descriptor = system_segment(cpu, selector);
  if (!descriptor.is_system() || descriptor.type() != system_type::kLdt)
    raise_selector(Vector::kGeneralProtection, selector);
  complete_system_segment(cpu, selector, descriptor);
  cpu.system.ldtr = make_segment(selector, descriptor);
}

void load_task_register(Cpu& cpu, const Operation& operation) {
  require_protected_mode(cpu);
  require_ring_0(cpu);
  const uint16_t selector = selector_operand(cpu, operation);
  if (is_null(selector)) Cpu::raise(Exception::general_protection());
  Descriptor descriptor = system_segment(cpu, selector);
  const unsigned type = descriptor.type();
  const bool available =
      descriptor.is_system() && (type == system_type::kTss32Available ||
                                 (type == system_type::kTss16Available && !cpu.long_mode));
  if (!available) raise_selector(Vector::kGeneralProtection, selector);
  complete_system_segment(cpu, selector, descriptor);
  change_type(cpu, descriptor, 0, 2);  // busy
  cpu.system.tr = make_segment(selector, descriptor);
}

void store_ldtr(Cpu& cpu, const Operation& operation) {
  store_selector(cpu, operation, cpu.system.ldtr.selector);
}
void store_task_register(Cpu& cpu, const Operation& operation) {
  store_selector(cpu, operation, cpu.system.tr.selector);
}

}  // namespace limen::soft::interpret
