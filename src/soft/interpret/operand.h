// Operands of an Operation: effective addresses, segment checks, register access.
#pragma once

#include <cstdint>
#include <type_traits>

#include "soft/cpu.h"
#include "soft/interpret/operation.h"

namespace limen::soft::interpret {

enum class AccessKind : uint8_t { kRead, kWrite };

/// Out of line: the legacy segment check of [offset, offset + size) (SDM Vol. 3A 5.3, 5.4, 5.5);
/// throws #GP(0), or #SS(0) for SS.
void check_legacy_segment(const Cpu& cpu, uint8_t segment, uint64_t offset, uint64_t size,
                          AccessKind kind);

/// Throws #SS(0) for SS, #GP(0) for the others, as for a non-canonical address.
[[noreturn]] void raise_segment_fault(uint8_t segment);

[[nodiscard]] inline bool is_canonical(uint64_t linear) {
  return static_cast<uint64_t>(static_cast<int64_t>(linear << 16) >> 16) == linear;
}

/// The linear address of segment:offset after the checks of the current mode. 64-bit mode: bases of
/// FS and GS only, canonical check (the MMU repeats it for the end of the operand).
inline uint64_t linear_address(Cpu& cpu, uint8_t segment, uint64_t offset, uint64_t size,
                               AccessKind kind) {
  if (cpu.mode == decode::CodeMode::k64) [[likely]] {
    if (segment >= x86::kFs) offset += cpu.system.segments[segment].base;
    if (!is_canonical(offset)) [[unlikely]]
      raise_segment_fault(segment);
    return offset;
  }
  check_legacy_segment(cpu, segment, offset, size, kind);
  return (cpu.system.segments[segment].base + offset) & 0xFFFFFFFF;
}

/// The offset that the memory operand names, cut to the address size (SDM Vol. 1 3.7.5).
inline uint64_t effective_address(const Cpu& cpu, const Operation& operation) {
  const uint64_t address = cpu.gpr[operation.base] + (cpu.gpr[operation.index] << operation.scale) +
                           static_cast<uint64_t>(static_cast<int64_t>(operation.displacement));
  if (operation.address_size == 8) [[likely]]
    return address;
  return operation.address_size == 4 ? static_cast<uint32_t>(address)
                                     : static_cast<uint16_t>(address);
}

inline uint64_t operand_linear(Cpu& cpu, const Operation& operation, uint64_t size,
                               AccessKind kind) {
  return linear_address(cpu, operation.segment, effective_address(cpu, operation), size, kind);
}

/// The same without the checks.
inline uint64_t unchecked_operand_linear(const Cpu& cpu, const Operation& operation) {
  const bool has_base = cpu.mode != decode::CodeMode::k64 || operation.segment >= x86::kFs;
  return (has_base ? cpu.system.segments[operation.segment].base : 0) +
         effective_address(cpu, operation);
}

template <typename T>
T read_memory(Cpu& cpu, uint8_t segment, uint64_t offset) {
  return cpu.mmu.read<T>(linear_address(cpu, segment, offset, sizeof(T), AccessKind::kRead));
}

template <typename T>
void write_memory(Cpu& cpu, uint8_t segment, uint64_t offset, T value) {
  cpu.mmu.write<T>(linear_address(cpu, segment, offset, sizeof(T), AccessKind::kWrite), value);
}

/// A general register as T. Byte registers 20 to 23 are AH, CH, DH and BH.
template <typename T>
T get_register(const Cpu& cpu, uint8_t reg) {
  if constexpr (sizeof(T) == 1) {
    if (reg >= 20) return static_cast<T>(cpu.gpr[reg - 20u] >> 8);
  }
  return static_cast<T>(cpu.gpr[reg]);
}

/// A 32-bit write clears the upper half; 8- and 16-bit writes keep the rest (SDM Vol. 1 3.4.1.1).
template <typename T>
void set_register(Cpu& cpu, uint8_t reg, T value) {
  const auto bits = static_cast<std::make_unsigned_t<T>>(value);
  if constexpr (sizeof(T) == 1) {
    if (reg >= 20) {
      uint64_t& full = cpu.gpr[reg - 20u];
      full = (full & ~uint64_t{0xFF00}) | (static_cast<uint64_t>(bits) << 8);
      return;
    }
    cpu.gpr[reg] = (cpu.gpr[reg] & ~uint64_t{0xFF}) | bits;
  } else if constexpr (sizeof(T) == 2) {
    cpu.gpr[reg] = (cpu.gpr[reg] & ~uint64_t{0xFFFF}) | bits;
  } else {
    cpu.gpr[reg] = bits;
  }
}

}  // namespace limen::soft::interpret
