// What the integer handlers share: picking a template by operand size, and reading, changing and
// writing a destination that is a register or memory.
#pragma once

#include <cstdint>
#include <cstring>
#include <mutex>

#include "soft/interpret/operand.h"
#include "soft/interpret/select.h"

namespace limen::soft::interpret {

/// H<T>::run for the unsigned type of `size` bytes.
template <template <typename> typename H>
Handler by_size(unsigned size) {
  switch (size) {
    case 1:
      return H<uint8_t>::run;
    case 2:
      return H<uint16_t>::run;
    case 4:
      return H<uint32_t>::run;
    default:
      return H<uint64_t>::run;
  }
}

/// The same where byte operands do not exist.
template <template <typename> typename H>
Handler by_wide_size(unsigned size) {
  return size == 2 ? H<uint16_t>::run : size == 4 ? H<uint32_t>::run : H<uint64_t>::run;
}

/// Calls `change(T&)` on the memory operand and writes it back. When `change` throws, nothing was
/// written.
template <typename T, typename F>
void modify_memory(Cpu& cpu, uint64_t linear, F&& change) {
  if (std::byte* host = cpu.mmu.host_for_write(linear, sizeof(T))) [[likely]] {
    T value;
    std::memcpy(&value, host, sizeof value);
    change(value);
    std::memcpy(host, &value, sizeof value);
    return;
  }
  cpu.mmu.probe_write(linear, sizeof(T));
  T value = cpu.mmu.read<T>(linear);
  change(value);
  cpu.mmu.write<T>(linear, value);
}

/// Held by locked accesses to devices, and by those that cross from a page into one that is not its
/// neighbour in RAM: they are atomic among themselves, and to no other access.
[[nodiscard]] std::mutex& bus_lock();

/// As modify_memory with LOCK: `locked(T*)` does it on the host's memory in one atomic instruction,
/// or `change` does it under bus_lock().
template <typename T, typename F, typename L>
void modify_memory_locked(Cpu& cpu, uint64_t linear, F&& change, L&& locked) {
  if (std::byte* host = cpu.mmu.host_for_write(linear, sizeof(T))) [[likely]] {
    locked(reinterpret_cast<T*>(host));
    return;
  }
  if (const auto place = cpu.mmu.place_for_locked(linear, sizeof(T)); place.host != nullptr) {
    locked(reinterpret_cast<T*>(place.host));
    cpu.mmu.wrote_locked(place);
    return;
  }
  const std::lock_guard lock(bus_lock());
  modify_memory<T>(cpu, linear, change);
}

[[nodiscard]] inline bool is_memory(const decode::Instruction& instruction, unsigned operand) {
  return instruction.operands[operand].type == ZYDIS_OPERAND_TYPE_MEMORY;
}
[[nodiscard]] inline bool is_register(const decode::Instruction& instruction, unsigned operand) {
  return instruction.operands[operand].type == ZYDIS_OPERAND_TYPE_REGISTER;
}
[[nodiscard]] inline bool is_immediate(const decode::Instruction& instruction, unsigned operand) {
  return instruction.operands[operand].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/// Number of the general register that the operand names, as Operation::reg has it.
[[nodiscard]] uint8_t register_of(const decode::Instruction& instruction, unsigned operand);

/// Segment of the first hidden memory operand (string instructions, XLAT), overrides applied.
[[nodiscard]] uint8_t segment_of_hidden_memory(const decode::Instruction& instruction);

// Each looks at one group of mnemonics; nullptr: not of the group.
Handler select_arithmetic(const decode::Instruction& instruction, Operation& operation);
Handler select_shift(const decode::Instruction& instruction, Operation& operation);
Handler select_multiply(const decode::Instruction& instruction, Operation& operation);
Handler select_move(const decode::Instruction& instruction, Operation& operation);
Handler select_bits(const decode::Instruction& instruction, Operation& operation);
Handler select_stack(const decode::Instruction& instruction, Operation& operation);
Handler select_branch(const decode::Instruction& instruction, Operation& operation);
Handler select_string(const decode::Instruction& instruction, Operation& operation);
Handler select_exchange(const decode::Instruction& instruction, Operation& operation);
Handler select_flags(const decode::Instruction& instruction, Operation& operation);

}  // namespace limen::soft::interpret
