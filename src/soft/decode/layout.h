// Where the displacement and the immediate of an instruction of 64-bit or 32-bit code stand,
// without decoding the rest: whoever has decoded an instruction with the same bytes before them
// knows this one, too.
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
  uint8_t rex = 0;    ///< One more than where REX stands; 0: there is none.
  uint8_t modrm = 0;  ///< Where ModRM stands; 0: there is none.
  bool sib = false;   ///< SIB follows it.
  // What could be another register without changing what the instruction does with it, as far as
  // the opcode decides: REX tells SPL to DIL from AH to BH.
  bool names_reg = false;      ///< ModRM.reg.
  bool names_rm = false;       ///< ModRM.rm, a register.
  bool names_address = false;  ///< Base and index.

  [[nodiscard]] bool known() const { return head != 0; }
  [[nodiscard]] unsigned length() const { return head + displacement + immediate; }
};

/// Knows the usual prefixes, the one-byte opcodes, the maps 0FH, 0F38H and 0F3AH, and VEX (SDM Vol.
/// 2A 2, Vol. 2D A.3). Not known(): it is something else, or there may be no such instruction. What
/// is known need not be an instruction either; but if it is one, it looks so. Of 32-bit code only
/// instructions with 32-bit addresses are known. `mode` is k32 or k64.
void find_layout(CodeMode mode, const InstructionBytes& bytes, Layout& layout);
inline Layout find_layout(CodeMode mode, const InstructionBytes& bytes) {
  Layout layout;
  find_layout(mode, bytes, layout);
  return layout;
}

}  // namespace limen::soft::decode
