#include "soft/interpret/system/return_stack.h"

#include "soft/interpret/stack.h"
#include "soft/interpret/system/far_transfer.h"
#include "soft/interpret/system/segment.h"

namespace limen::soft::interpret {

using x86::Exception;
using x86::Segment;
using x86::Vector;

uint64_t ReturnStack::pop() {
  const uint64_t depth = depth_;
  depth_ += width_;
  switch (width_) {
    case 2:
      return peek<uint16_t>(cpu_, depth);
    case 4:
      return peek<uint32_t>(cpu_, depth);
    default:
      return peek<uint64_t>(cpu_, depth);
  }
}

uint16_t ReturnStack::pop_selector() {
  const uint64_t depth = depth_;
  depth_ += width_;
  return peek<uint16_t>(cpu_, depth);
}

ReturnStack::FarPointer ReturnStack::pop_far_pointer() {
  const uint64_t start = depth_;
  depth_ = start + width_;
  const uint16_t selector = pop_selector();
  depth_ = start;
  const uint64_t offset = pop();
  depth_ = start + uint64_t{2} * width_;
  return {offset, selector};
}

void ReturnStack::commit() { set_stack_pointer(cpu_, cpu_.gpr[x86::kRsp] + depth_); }

Segment checked_return_code_segment(Cpu& cpu, uint16_t selector) {
  if (is_null(selector)) Cpu::raise(Exception::general_protection());
  Descriptor descriptor = fetch_descriptor(cpu, selector);
  const unsigned rpl = selector & 3u;
  const bool reachable =
      descriptor.is_code() && rpl >= cpu.cpl &&
      (descriptor.is_conforming() ? descriptor.dpl() <= rpl : descriptor.dpl() == rpl);
  if (!reachable) raise_selector(Vector::kGeneralProtection, selector);
  return make_code_segment(cpu, selector, descriptor, rpl);
}

Segment checked_return_stack_segment(Cpu& cpu, uint16_t selector, const Segment& code) {
  const unsigned new_cpl = code.selector & 3u;
  if (is_null(selector) && cpu.long_mode && code.is_long() && new_cpl != 3 &&
      (selector & 3u) == new_cpl)
    return null_segment(selector, new_cpl);
  return checked_stack_segment(cpu, selector, new_cpl);
}

}  // namespace limen::soft::interpret
