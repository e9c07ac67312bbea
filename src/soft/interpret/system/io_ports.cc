// IN, OUT, INS, OUTS (SDM Vol. 1 19.5, 19.6; Vol. 2A, 2B).
#include "soft/interpret/debug.h"
#include "soft/interpret/operand.h"
#include "soft/interpret/system/descriptor.h"
#include "soft/interpret/system/flags.h"
#include "soft/interpret/system/handlers.h"

namespace limen::soft::interpret {

using x86::Exception;

namespace {

/// The I/O permission bit map of the TSS (SDM Vol. 1 19.5.2).
void check_permission(Cpu& cpu, uint16_t port, unsigned size) {
  if (!cpu.protected_mode && !cpu.virtual_8086) return;
  if (!cpu.virtual_8086 && cpu.cpl <= io_privilege(cpu)) return;
  const x86::Segment& tr = cpu.system.tr;
  constexpr uint64_t kMapBase = 0x66;
  const bool has_map = tr.present() && (tr.type() == system_type::kTss32Busy ||
                                        tr.type() == system_type::kTss32Available);
  if (!has_map || tr.limit < kMapBase + 1) Cpu::raise(Exception::general_protection());
  const uint64_t map = cpu.mmu.read_supervisor<uint16_t>(system_linear(cpu, tr.base + kMapBase));
  // Two bytes are read, so that an access may cross into the second.
  const uint64_t first = map + port / 8u;
  if (first + 1 > tr.limit) Cpu::raise(Exception::general_protection());
  const auto bits = cpu.mmu.read_supervisor<uint16_t>(system_linear(cpu, tr.base + first));
  const unsigned wanted = ((1u << size) - 1) << (port % 8u);
  if (bits & wanted) Cpu::raise(Exception::general_protection());
}

uint16_t port_operand(const Cpu& cpu, const Operation& operation) {
  return static_cast<uint16_t>(cpu.gpr[operation.base] + operation.immediate);
}

uint64_t width_mask(unsigned address_size) {
  return address_size == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * address_size)) - 1;
}

/// Replaces as much of the register as the address size covers; 32 bits clear the upper half.
void set_by_address_size(Cpu& cpu, uint8_t reg, uint64_t value, unsigned address_size) {
  if (address_size == 2)
    set_register<uint16_t>(cpu, reg, static_cast<uint16_t>(value));
  else
    cpu.gpr[reg] = value & width_mask(address_size);
}

/// Runs `once` as the repeat prefix asks; it is given the offset in rSI or rDI. Between two rounds
/// an interrupt or a trap may come in: the instruction then starts again with what is left.
template <typename Once>
void repeat(Cpu& cpu, const Operation& operation, uint8_t index, Once once) {
  const unsigned width = operation.address_size;
  const uint64_t mask = width_mask(width);
  const bool repeats = operation.flags & (Operation::kRep | Operation::kRepne);
  const uint64_t step = (cpu.flags_rest & x86::rflags::kDirection)
                            ? ~uint64_t{operation.operand_size} + 1
                            : operation.operand_size;
  const bool one_by_one = (cpu.flags_rest & x86::rflags::kTrap) || debug_active(cpu);
  for (;;) {
    if (repeats && (cpu.gpr[x86::kRcx] & mask) == 0) return;
    once(cpu.gpr[index] & mask);
    set_by_address_size(cpu, index, cpu.gpr[index] + step, width);
    if (!repeats) return;
    set_by_address_size(cpu, x86::kRcx, cpu.gpr[x86::kRcx] - 1, width);
    if ((cpu.gpr[x86::kRcx] & mask) == 0) return;
    if (one_by_one || cpu.attention.is_called()) {
      cpu.gpr[kNextRip] = cpu.rip;
      cpu.leave_block = true;
      return;
    }
  }
}

}  // namespace

void port_in(Cpu& cpu, const Operation& operation) {
  const uint16_t port = port_operand(cpu, operation);
  const unsigned size = operation.operand_size;
  check_permission(cpu, port, size);
  const uint64_t value = cpu.ports.read(port, size);
  note_port_access(cpu, port, size);
  switch (size) {
    case 1:
      return set_register<uint8_t>(cpu, x86::kRax, static_cast<uint8_t>(value));
    case 2:
      return set_register<uint16_t>(cpu, x86::kRax, static_cast<uint16_t>(value));
    default:
      return set_register<uint32_t>(cpu, x86::kRax, static_cast<uint32_t>(value));
  }
}

void port_out(Cpu& cpu, const Operation& operation) {
  const uint16_t port = port_operand(cpu, operation);
  const unsigned size = operation.operand_size;
  check_permission(cpu, port, size);
  cpu.ports.write(port, size, cpu.gpr[x86::kRax] & width_mask(size));
  note_port_access(cpu, port, size);
}

void port_in_string(Cpu& cpu, const Operation& operation) {
  const auto port = static_cast<uint16_t>(cpu.gpr[x86::kRdx]);
  const unsigned size = operation.operand_size;
  check_permission(cpu, port, size);  // even for no rounds at all
  repeat(cpu, operation, x86::kRdi, [&](uint64_t offset) {
    // The port is read only once it is known that the value can be stored.
    const uint64_t linear = linear_address(cpu, x86::kEs, offset, size, AccessKind::kWrite);
    cpu.mmu.probe_write(linear, size);
    const uint64_t value = cpu.ports.read(port, size);
    note_port_access(cpu, port, size);
    switch (size) {
      case 1:
        return cpu.mmu.write<uint8_t>(linear, static_cast<uint8_t>(value));
      case 2:
        return cpu.mmu.write<uint16_t>(linear, static_cast<uint16_t>(value));
      default:
        return cpu.mmu.write<uint32_t>(linear, static_cast<uint32_t>(value));
    }
  });
}

void port_out_string(Cpu& cpu, const Operation& operation) {
  const auto port = static_cast<uint16_t>(cpu.gpr[x86::kRdx]);
  const unsigned size = operation.operand_size;
  check_permission(cpu, port, size);
  repeat(cpu, operation, x86::kRsi, [&](uint64_t offset) {
    const uint64_t linear = linear_address(cpu, operation.segment, offset, size, AccessKind::kRead);
    const uint64_t value = size == 1   ? cpu.mmu.read<uint8_t>(linear)
                           : size == 2 ? cpu.mmu.read<uint16_t>(linear)
                                       : cpu.mmu.read<uint32_t>(linear);
    cpu.ports.write(port, size, value);
    note_port_access(cpu, port, size);
  });
}

}  // namespace limen::soft::interpret
