// The guest's instruction as bytes that the host can run: 64-bit code, the memory operand at [rsi],
// the general registers renamed to those that a thunk may freely use.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "soft/decode/decoder.h"

namespace limen::soft::interpret::native {

/// Host registers with a fixed meaning in a thunk.
inline constexpr uint8_t kStateRegister = 7;   ///< RDI: the Cpu.
inline constexpr uint8_t kMemoryRegister = 6;  ///< RSI: the memory operand.
inline constexpr uint8_t kX87Register = 11;    ///< R11: the x87 image, where there is one.

struct HostInstruction {
  struct Binding {
    uint8_t guest = 0;
    uint8_t host = 0;
    bool written = false;
  };

  std::array<uint8_t, 16> bytes{};
  uint8_t length = 0;
  std::array<Binding, 5> bindings{};
  uint8_t binding_count = 0;
  /// The x87 opcode as FOP would show it; 0 for others (SDM Vol. 1 8.1.9).
  uint16_t x87_opcode = 0;

  [[nodiscard]] std::span<const uint8_t> code() const { return {bytes.data(), length}; }
};

/// Nothing when the instruction has an operand that cannot be moved to the host (stack, string,
/// segment, control register, several memory operands, ...), or when decoding the result does not
/// give the same instruction back.
/// `plain_scan` turns TZCNT and LZCNT into BSF and BSR, as processors without them read the bytes.
[[nodiscard]] std::optional<HostInstruction> rewrite(const decode::Instruction& instruction,
                                                     bool plain_scan = false);

}  // namespace limen::soft::interpret::native
