// The flags that privilege guards: IF, IOPL, VM, AC (SDM Vol. 1 3.4.3.3).
#pragma once

#include "soft/cpu.h"

namespace limen::soft::interpret {

[[nodiscard]] inline unsigned io_privilege(const Cpu& cpu) {
  return static_cast<unsigned>((cpu.flags_rest >> x86::rflags::kIoplShift) & 3);
}

/// Takes the bits of `mask` from `value`. Where TF, IF or AC changed, has the mode recomputed or
/// the run loop look up, as the bit asks for.
void replace_flags(Cpu& cpu, uint64_t value, uint64_t mask);

}  // namespace limen::soft::interpret
