#include "soft/interpret/system/frame.h"

#include "soft/interpret/operand.h"
#include "soft/interpret/system/segment.h"

namespace limen::soft::interpret {
namespace {

uint64_t stack_linear(const StackTarget& stack, uint64_t offset) {
  return stack.flat ? offset : (stack.segment.base + offset) & 0xFFFFFFFF;
}

template <typename T>
void store(Cpu& cpu, unsigned cpl, uint64_t linear, uint64_t value) {
  if (cpl == 3)
    cpu.mmu.write<T>(linear, static_cast<T>(value));
  else
    cpu.mmu.write_supervisor<T>(linear, static_cast<T>(value));
}

}  // namespace

void PushFrame::check(Cpu& cpu, const StackTarget& stack, uint32_t stack_error_code) const {
  for (unsigned i = 0; i < count_; ++i) {
    const uint64_t offset = offset_of(stack, i);
    const bool inside =
        stack.flat ? is_canonical(offset) : within_limit(stack.segment, offset, width_);
    if (!inside) Cpu::raise(x86::Exception::with_code(x86::Vector::kStackFault, stack_error_code));
  }
  for (unsigned i = 0; i < count_; ++i) {
    const uint64_t linear = stack_linear(stack, offset_of(stack, i));
    if (stack.cpl == 3)
      cpu.mmu.probe_write(linear, width_);
    else
      cpu.mmu.probe_write_supervisor(linear, width_);
  }
}

uint64_t PushFrame::write(Cpu& cpu, const StackTarget& stack) const {
  for (unsigned i = 0; i < count_; ++i) {
    const uint64_t linear = stack_linear(stack, offset_of(stack, i));
    switch (width_) {
      case 2:
        store<uint16_t>(cpu, stack.cpl, linear, values_[i]);
        break;
      case 4:
        store<uint32_t>(cpu, stack.cpl, linear, values_[i]);
        break;
      default:
        store<uint64_t>(cpu, stack.cpl, linear, values_[i]);
        break;
    }
  }
  return count_ == 0 ? stack.pointer : offset_of(stack, count_ - 1);
}

}  // namespace limen::soft::interpret
