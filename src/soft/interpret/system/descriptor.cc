#include "soft/interpret/system/descriptor.h"

namespace limen::soft::interpret {

using x86::Exception;
using x86::Segment;
using x86::Vector;

void raise_selector(Vector vector, uint16_t selector, uint32_t external) {
  Cpu::raise(Exception::with_code(vector, (selector & 0xFFFCu) | external));
}

namespace {

/// Base and limit of the table that the selector's TI bit names.
struct Table {
  uint64_t base;
  uint32_t limit;
};

Table table_of(const Cpu& cpu, uint16_t selector, Vector fault, uint32_t external) {
  if ((selector & 4) == 0) return {cpu.system.gdtr.base, cpu.system.gdtr.limit};
  if (!cpu.system.ldtr.present()) raise_selector(fault, selector, external);
  return {cpu.system.ldtr.base, cpu.system.ldtr.limit};
}

}  // namespace

Descriptor fetch_descriptor(Cpu& cpu, uint16_t selector, Vector fault, uint32_t external) {
  const Table table = table_of(cpu, selector, fault, external);
  if ((selector | 7u) > table.limit) raise_selector(fault, selector, external);
  const uint64_t address = system_linear(cpu, table.base + (selector & 0xFFF8u));
  return {.low = cpu.mmu.read_supervisor<uint64_t>(address), .high = 0, .address = address};
}

void fetch_upper_half(Cpu& cpu, uint16_t selector, Descriptor& descriptor, Vector fault,
                      uint32_t external) {
  if (!cpu.long_mode) return;
  const Table table = table_of(cpu, selector, fault, external);
  if ((selector | 7u) + 8u > table.limit) raise_selector(fault, selector, external);
  descriptor.high = cpu.mmu.read_supervisor<uint64_t>(system_linear(cpu, descriptor.address + 8));
  // The type field of the upper half must name nothing.
  if ((descriptor.high >> 40) & 0x1F) raise_selector(fault, selector, external);
}

void mark_accessed(Cpu& cpu, Descriptor& descriptor) {
  if (descriptor.type() & Segment::kAccessed) return;
  change_type(cpu, descriptor, 0, Segment::kAccessed);
}

void change_type(Cpu& cpu, Descriptor& descriptor, uint8_t clear, uint8_t set) {
  // One byte, so that no other field of the descriptor can be written back stale.
  const uint8_t byte =
      cpu.mmu.change_byte_supervisor(system_linear(cpu, descriptor.address + 5), clear, set);
  descriptor.low = (descriptor.low & ~(uint64_t{0xFF} << 40)) | (uint64_t{byte} << 40);
}

Segment make_segment(uint16_t selector, const Descriptor& descriptor) {
  Segment segment{.selector = selector,
                  .attributes = descriptor.attributes(),
                  .limit = descriptor.limit(),
                  .base = descriptor.base()};
  if (!descriptor.is_system()) segment.attributes |= Segment::kAccessed;
  return segment;
}

}  // namespace limen::soft::interpret
