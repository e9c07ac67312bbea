// Invalidation of translations and caches (SDM Vol. 2A "INVLPG", "INVPCID", "CLFLUSH", ...). Guest
// memory is coherent: of the cache instructions only the checks remain.
#include "soft/interpret/operand.h"
#include "soft/interpret/system/features.h"
#include "soft/interpret/system/handlers.h"

namespace limen::soft::interpret {

using decode::CodeMode;
using x86::Exception;

namespace {

void require_ring_0(const Cpu& cpu) {
  if (cpu.cpl != 0) Cpu::raise(Exception::general_protection());
}

}  // namespace

void invalidate_page(Cpu& cpu, const Operation& operation) {
  require_ring_0(cpu);
  // No segment or canonical check: an address that cannot be mapped has nothing to invalidate.
  uint64_t linear = effective_address(cpu, operation);
  if (cpu.mode != CodeMode::k64)
    linear = (linear + cpu.system.segments[operation.segment].base) & 0xFFFFFFFF;
  else if (operation.segment >= x86::kFs)
    linear += cpu.system.segments[operation.segment].base;
  cpu.mmu.invalidate_page(linear);
  cpu.leave_block = true;
}

void invalidate_pcid(Cpu& cpu, const Operation& operation) {
  if (!has_feature(cpu, Feature::kInvpcid) || !(operation.flags & Operation::kMemory))
    Cpu::raise(Exception::invalid_opcode());
  require_ring_0(cpu);
  const uint64_t linear = operand_linear(cpu, operation, 16, AccessKind::kRead);
  const auto pcid = cpu.mmu.read<uint64_t>(linear);
  const auto address = cpu.mmu.read<uint64_t>(linear + 8);
  const uint64_t type = cpu.mode == CodeMode::k64 ? cpu.gpr[operation.reg]
                                                  : static_cast<uint32_t>(cpu.gpr[operation.reg]);
  if (!cpu.mmu.invalidate_pcid(type, pcid, address)) Cpu::raise(Exception::general_protection());
  cpu.leave_block = true;
}

void write_back_caches(Cpu& cpu, const Operation&) { require_ring_0(cpu); }

void flush_cache_line(Cpu& cpu, const Operation& operation) {
  cpu.mmu.probe_read(operand_linear(cpu, operation, 1, AccessKind::kRead), 1);
}

void demote_cache_line(Cpu&, const Operation&) {}  // a hint: no check, no effect

void zero_cache_line(Cpu& cpu, const Operation& operation) {
  if (!has_feature(cpu, Feature::kClzero)) Cpu::raise(Exception::invalid_opcode());
  constexpr uint64_t kLine = 64;
  uint64_t offset = cpu.gpr[x86::kRax];
  if (operation.address_size < 8) offset &= operation.address_size == 4 ? 0xFFFFFFFF : 0xFFFF;
  const uint64_t linear = linear_address(cpu, operation.segment, offset, 1, AccessKind::kWrite);
  const std::array<std::byte, kLine> zeros{};
  cpu.mmu.write_bytes(linear & ~(kLine - 1), zeros);
}

}  // namespace limen::soft::interpret
