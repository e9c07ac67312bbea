// One instruction as the fields of its encoding, so that forms can be enumerated by walking field
// values and trials can vary registers and addressing without knowing what the instruction means.
#pragma once

#include <array>
#include <cstdint>

#include "soft/decode/decoder.h"

namespace limen::conformance {

enum class Scheme : uint8_t { kLegacy, k3dNow, kVex, kEvex, kXop };

/// SDM Vol. 2A 2.1 to 2.3, 2.7; APM Vol. 3 1.2.
struct Encoding {
  soft::decode::CodeMode mode = soft::decode::CodeMode::k64;
  Scheme scheme = Scheme::kLegacy;

  // Legacy prefixes.
  bool operand_size = false;  ///< 66
  bool address_size = false;  ///< 67
  bool lock = false;          ///< F0
  bool repne = false;         ///< F2
  bool rep = false;           ///< F3
  uint8_t segment = 0;        ///< The prefix byte, 0 for none.
  bool rex = false;           ///< A REX prefix even if its four bits are clear.

  uint8_t map = 0;  ///< Legacy: 0 (one byte), 1 (0F), 2 (0F 38), 3 (0F 3A).
  uint8_t opcode = 0;
  uint8_t pp = 0;  ///< VEX, EVEX, XOP: 0 none, 1 66, 2 F3, 3 F2.
  bool w = false;
  uint8_t length = 0;  ///< VEX.L or EVEX.L'L.
  bool broadcast = false;
  bool zeroing = false;
  uint8_t opmask = 0;
  uint8_t vvvv = 0;  ///< Not inverted; 5 bits. 0 encodes as 1111 (unused).

  uint8_t mod = 3;
  uint8_t reg = 0;  ///< ModRM.reg with its extensions: 5 bits.
  uint8_t rm = 0;   ///< Register, or base of a memory operand: 5 bits.
  uint8_t index = 4;
  uint8_t scale = 0;
  bool sib = false;
  std::array<uint8_t, 4> displacement{};
  std::array<uint8_t, 8> immediate{};  ///< As many of them as the instruction takes.
};

struct Bytes {
  std::array<uint8_t, 40> data{};
  unsigned size = 0;
};

/// All bytes that the instruction may need; the decoder says how many it takes.
[[nodiscard]] Bytes emit(const Encoding& encoding);

}  // namespace limen::conformance
