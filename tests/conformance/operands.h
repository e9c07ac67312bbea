// Reading and setting the registers that an operand names, before a trial.
#pragma once

#include "conformance/trial.h"
#include "soft/decode/decoder.h"

namespace limen::conformance {

/// A general register of any width, as the decoder names it.
struct NamedRegister {
  bool general = false;
  uint8_t number = 0;
  uint8_t bytes = 0;
  bool high_byte = false;  ///< AH, CH, DH, BH.
};
[[nodiscard]] NamedRegister named(ZydisRegister reg);

[[nodiscard]] uint64_t get(const Registers& registers, const NamedRegister& reg);
/// Sets the low part; the rest of the register keeps its bits.
void set(Registers& registers, const NamedRegister& reg, uint64_t value);

}  // namespace limen::conformance
