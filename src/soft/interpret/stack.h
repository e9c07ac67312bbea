// Pushes and pops in the stack of the current mode (SDM Vol. 1 6.2).
#pragma once

#include "soft/interpret/operand.h"

namespace limen::soft::interpret {

/// Writes SP, ESP or RSP, whichever the stack's width selects.
inline void set_stack_pointer(Cpu& cpu, uint64_t value) {
  uint64_t& rsp = cpu.gpr[x86::kRsp];
  rsp = cpu.stack_mask == 0xFFFF ? (rsp & ~uint64_t{0xFFFF}) | (value & 0xFFFF)
                                 : value & cpu.stack_mask;
}

[[nodiscard]] inline uint64_t stack_pointer(const Cpu& cpu) {
  return cpu.gpr[x86::kRsp] & cpu.stack_mask;
}

template <typename T>
void push(Cpu& cpu, T value) {
  const uint64_t offset = (cpu.gpr[x86::kRsp] - sizeof(T)) & cpu.stack_mask;
  write_memory<T>(cpu, x86::kSs, offset, value);
  set_stack_pointer(cpu, offset);
}

/// The value `depth` bytes above the stack pointer.
template <typename T>
T peek(Cpu& cpu, uint64_t depth = 0) {
  return read_memory<T>(cpu, x86::kSs, (cpu.gpr[x86::kRsp] + depth) & cpu.stack_mask);
}

template <typename T>
T pop(Cpu& cpu) {
  const T value = peek<T>(cpu);
  set_stack_pointer(cpu, cpu.gpr[x86::kRsp] + sizeof(T));
  return value;
}

}  // namespace limen::soft::interpret
