// What RET and IRET read from the stack and check before they change anything (SDM Vol. 2A "IRET",
// Vol. 2B "RET").
#pragma once

#include <cstdint>

#include "soft/cpu.h"

namespace limen::soft::interpret {

/// Reads successive elements above the stack pointer; RSP moves at commit() only.
class ReturnStack {
 public:
  ReturnStack(Cpu& cpu, unsigned width) : cpu_(cpu), width_(width) {}

  /// The next element, zero-extended.
  [[nodiscard]] uint64_t pop();
  /// The next element's lower word, which is all that is read of it.
  [[nodiscard]] uint16_t pop_selector();
  /// An offset and, above it, a selector, which is read first.
  struct FarPointer {
    uint64_t offset;
    uint16_t selector;
  };
  [[nodiscard]] FarPointer pop_far_pointer();
  void release(uint64_t bytes) { depth_ += bytes; }
  void commit();

 private:
  Cpu& cpu_;
  unsigned width_;
  uint64_t depth_ = 0;
};

/// The code segment to return to in protected mode: null, type, RPL and DPL, presence checked.
x86::Segment checked_return_code_segment(Cpu& cpu, uint16_t selector);

/// The stack segment that goes with `code` (its RPL is the new CPL). Null is allowed for 64-bit
/// code outside ring 3.
x86::Segment checked_return_stack_segment(Cpu& cpu, uint16_t selector, const x86::Segment& code);

}  // namespace limen::soft::interpret
