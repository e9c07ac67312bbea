#include "soft/translate/fast_calls.h"

#include <cstddef>
#include <cstring>

#include "soft/interpret/system/segment.h"

namespace limen::soft::translate {
namespace {

uint64_t without_base(const x86::Segment& segment) {
  static_assert(offsetof(x86::Segment, base) == sizeof(uint64_t));
  uint64_t word = 0;
  std::memcpy(&word, &segment, sizeof word);
  return word;
}

}  // namespace

void FastCalls::prepare(const x86::SystemState& system) {
  using interpret::flat_code_segment;
  using interpret::flat_stack_segment;
  efer_ = system.efer;
  star_ = system.star;
  fmask_ = system.fmask;
  system_return = (efer_ & x86::efer::kSce) != 0;
  call = system_return && (fmask_ & x86::rflags::kArithmetic) == x86::rflags::kArithmetic;
  kept_flags = ~fmask_ & ~x86::rflags::kResume;
  const auto inner = static_cast<uint16_t>((star_ >> 32) & 0xFFFC);
  const uint64_t outer = star_ >> 48;
  call_code = without_base(flat_code_segment(inner, 0, true));
  call_stack = without_base(flat_stack_segment(static_cast<uint16_t>(inner + 8), 0));
  return_code = without_base(flat_code_segment(static_cast<uint16_t>((outer + 16) | 3), 3, true));
  return_stack = without_base(flat_stack_segment(static_cast<uint16_t>((outer + 8) | 3), 3));
}

}  // namespace limen::soft::translate
