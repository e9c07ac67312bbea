#include "soft/interpret/debug.h"

#include "soft/interpret/operand.h"
#include "soft/interpret/system/handlers.h"

namespace limen::soft::interpret {

using x86::Exception;

namespace {

constexpr uint64_t kGeneralDetect = 1u << 13;  // DR7.GD
constexpr uint64_t kDr7Fixed = 0x400;
constexpr uint64_t kDr7Defined = 0xFFFF23FF;

enum class Condition : uint8_t { kExecute = 0, kWrite = 1, kPort = 2, kReadWrite = 3 };

struct Breakpoint {
  bool enabled;
  Condition condition;
  unsigned size;
};

Breakpoint breakpoint(const Cpu& cpu, unsigned index) {
  const uint64_t dr7 = cpu.system.dr[7];
  const uint64_t control = dr7 >> (16 + 4 * index);
  static constexpr unsigned kSizes[] = {1, 2, 8, 4};
  return {.enabled = ((dr7 >> (2 * index)) & 3) != 0,
          .condition = static_cast<Condition>(control & 3),
          .size = kSizes[(control >> 2) & 3]};
}

/// The register that an encoding names: 4 and 5 are 6 and 7 unless CR4.DE is set.
unsigned checked_register(const Cpu& cpu, unsigned number) {
  if (number > 7) Cpu::raise(Exception::invalid_opcode());
  if (number == 4 || number == 5) {
    if (cpu.system.cr4 & x86::cr4::kDe) Cpu::raise(Exception::invalid_opcode());
    number += 2;
  }
  if (cpu.cpl != 0) Cpu::raise(Exception::general_protection());
  if (cpu.system.dr[7] & kGeneralDetect)
    Cpu::raise({.vector = x86::Vector::kDebug, .debug_status = dr6::kRegisterAccess});
  return number;
}

}  // namespace

uint64_t instruction_breakpoint_hits(const Cpu& cpu, uint64_t linear) {
  if (cpu.flags_rest & x86::rflags::kResume) return 0;
  uint64_t hits = 0;
  for (unsigned i = 0; i < 4; ++i) {
    const Breakpoint point = breakpoint(cpu, i);
    if (point.enabled && point.condition == Condition::kExecute && cpu.system.dr[i] == linear)
      hits |= uint64_t{1} << i;
  }
  return hits;
}

void note_port_access(Cpu& cpu, uint16_t port, unsigned size) {
  if (!debug_active(cpu) || !(cpu.system.cr4 & x86::cr4::kDe)) return;
  for (unsigned i = 0; i < 4; ++i) {
    const Breakpoint point = breakpoint(cpu, i);
    if (!point.enabled || point.condition != Condition::kPort) continue;
    const uint64_t first = cpu.system.dr[i] & ~uint64_t{point.size - 1};
    if (port < first + point.size && first < uint64_t{port} + size)
      cpu.activity.pending_debug |= uint64_t{1} << i;
  }
}

void debug_registers_changed(Cpu& cpu) {
  cpu.mmu.set_watchpoints(cpu.system.dr);
  cpu.leave_block = true;
}

void record_debug_exception(Cpu& cpu, uint64_t status) {
  uint64_t& status_register = cpu.system.dr[6];
  if (status & dr6::kBreakpoints) status_register &= ~dr6::kBreakpoints;
  status_register |= status | dr6::kReservedOnes;
  cpu.system.dr[7] &= ~kGeneralDetect;
  constexpr uint64_t kLastBranchAndBranchTrap = 3;
  cpu.system.debug_ctl &= ~kLastBranchAndBranchTrap;
}

void move_to_debug(Cpu& cpu, const Operation& operation) {
  const unsigned number = checked_register(cpu, operation.reg);
  const uint64_t value = cpu.mode == decode::CodeMode::k64
                             ? cpu.gpr[operation.rm]
                             : static_cast<uint32_t>(cpu.gpr[operation.rm]);
  if (number >= 6 && (value >> 32) != 0) Cpu::raise(Exception::general_protection());
  if (number == 6)
    cpu.system.dr[6] =
        (value & (dr6::kBreakpoints | dr6::kRegisterAccess | dr6::kSingleStep | dr6::kTaskSwitch)) |
        dr6::kReservedOnes;
  else if (number == 7)
    cpu.system.dr[7] = (value & kDr7Defined) | kDr7Fixed;
  else
    cpu.system.dr[number] = value;
  // This instruction completes: an RF left over from before any breakpoint was armed must not hide
  // the first one.
  cpu.flags_rest &= ~x86::rflags::kResume;
  debug_registers_changed(cpu);
}

void move_from_debug(Cpu& cpu, const Operation& operation) {
  const unsigned number = checked_register(cpu, operation.reg);
  set_register<uint64_t>(cpu, operation.rm, cpu.system.dr[number]);
}

}  // namespace limen::soft::interpret
