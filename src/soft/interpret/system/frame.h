// A group of pushes that happens as a whole or not at all: far calls, gates, interrupt delivery.
#pragma once

#include <array>
#include <cstdint>

#include "soft/cpu.h"

namespace limen::soft::interpret {

/// The stack that a far transfer will use; it need not be the current one yet.
struct StackTarget {
  x86::Segment segment{};
  uint64_t pointer = 0;
  unsigned cpl = 0;
  bool flat = false;  ///< 64-bit: no base, no limit.

  /// The stack of the running code.
  [[nodiscard]] static StackTarget current(const Cpu& cpu) {
    return {.segment = cpu.system.segments[x86::kSs],
            .pointer = cpu.gpr[x86::kRsp],
            .cpl = cpu.cpl,
            .flat = cpu.mode == decode::CodeMode::k64};
  }
  [[nodiscard]] uint64_t mask() const {
    if (flat) return ~uint64_t{0};
    return segment.default_big() ? 0xFFFFFFFF : 0xFFFF;
  }
};

/// Replaces as much of RSP as the stack's width covers.
inline void store_stack_pointer(Cpu& cpu, uint64_t value, uint64_t mask) {
  uint64_t& rsp = cpu.gpr[x86::kRsp];
  rsp = mask == 0xFFFF ? (rsp & ~mask) | (value & mask) : value & mask;
}

class PushFrame {
 public:
  /// `width` is the size of each element: 2, 4 or 8 bytes.
  explicit PushFrame(unsigned width) : width_(width) {}

  void add(uint64_t value) { values_[count_++] = value; }

  /// Throws what the pushes would throw: #SS with `stack_error_code` for a limit or a non-canonical
  /// address, #PF from the MMU. Nothing is written.
  void check(Cpu& cpu, const StackTarget& stack, uint32_t stack_error_code) const;
  /// Writes; to be called after check(). Returns the new stack pointer.
  [[nodiscard]] uint64_t write(Cpu& cpu, const StackTarget& stack) const;

 private:
  [[nodiscard]] uint64_t offset_of(const StackTarget& stack, unsigned index) const {
    return (stack.pointer - uint64_t{index + 1} * width_) & stack.mask();
  }

  std::array<uint64_t, 40> values_{};  // the largest: a call gate with 31 parameters
  unsigned count_ = 0;
  unsigned width_;
};

}  // namespace limen::soft::interpret
