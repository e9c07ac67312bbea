// Where the displacement and the immediate of an instruction of 64-bit code stand, without decoding
// the rest: whoever has decoded an instruction with the same bytes before them knows this one, too.
#pragma once

#include <array>
#include <cstdint>

#include "soft/decode/decoder.h"

namespace limen::soft::decode {

/// Room for an instruction, and one byte that makes it two words.
using InstructionBytes = std::array<uint8_t, kMaxInstructionLength + 1>;

struct Layout {
  uint8_t head = 0;          ///< Bytes before displacement and immediate. 0: see find_layout().
  uint8_t displacement = 0;  ///< Bytes of it. It comes first.
  uint8_t immediate = 0;
  /// The immediate is more than a value: it decides which registers or flags the instruction reads
  /// and writes (a shift's count, a register in VEX's last byte).
  bool immediate_counts = false;

  [[nodiscard]] bool known() const { return head != 0; }
  [[nodiscard]] unsigned length() const { return head + displacement + immediate; }
};

/// Knows the usual prefixes, the one-byte opcodes, the maps 0FH, 0F38H and 0F3AH, and VEX (SDM Vol.
/// 2A 2, Vol. 2D A.3). Not known(): it is something else, or there may be no such instruction. What
/// is known need not be an instruction either; but if it is one, it looks so.
Layout find_layout(const InstructionBytes& bytes);

}  // namespace limen::soft::decode
