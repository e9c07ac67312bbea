// Vector instructions of random programs.
#include <cstring>

#include "conformance/programs/generator.h"

namespace limen::conformance {
namespace {

enum class Operand : uint8_t {
  kVector,
  kGeneral,       ///< A general register that is read, or none.
  kGeneralWrite,  ///< One that is written.
  kMask,
};

struct VectorForm {
  uint8_t prefix;  ///< As VEX.pp: 0 none, 1 66, 2 F3, 3 F2.
  uint8_t map, opcode;
  bool w;
  uint8_t size;  ///< Bytes in memory with vectors of 16 bytes (0: what the vector has).
  bool writes, aligned, immediate;
  Operand reg;
  bool second;          ///< VEX.vvvv names a source.
  uint8_t lengths = 7;  ///< Those it has: bit 0 128, bit 1 256, bit 2 512.
};

constexpr auto V = Operand::kVector;
constexpr auto G = Operand::kGeneral;
constexpr auto W = Operand::kGeneralWrite;
constexpr auto K = Operand::kMask;

// SDM Vol. 2, appendix A.
constexpr VectorForm kSse[] = {
    {0, 1, 0x10, false, 16, false, false, false, V, false},  // MOVUPS
    {0, 1, 0x11, false, 16, true, false, false, V, false},
    {0, 1, 0x28, false, 16, false, true, false, V, false},  // MOVAPS
    {0, 1, 0x29, false, 16, true, true, false, V, false},
    {2, 1, 0x6F, false, 16, false, false, false, V, false},  // MOVDQU
    {2, 1, 0x7F, false, 16, true, false, false, V, false},
    {1, 1, 0x6F, false, 16, false, true, false, V, false},  // MOVDQA
    {1, 1, 0x7F, false, 16, true, true, false, V, false},
    {2, 1, 0x10, false, 4, false, false, false, V, false},  // MOVSS
    {2, 1, 0x11, false, 4, true, false, false, V, false},
    {3, 1, 0x10, false, 8, false, false, false, V, false},  // MOVSD
    {3, 1, 0x11, false, 8, true, false, false, V, false},
    {2, 1, 0x7E, false, 8, false, false, false, V, false},  // MOVQ
    {1, 1, 0xD6, false, 8, true, false, false, V, false},
    {1, 1, 0x6E, true, 8, false, false, false, V, false},
    {1, 1, 0x7E, true, 8, true, false, false, V, false},
    {1, 1, 0x6E, false, 4, false, false, false, V, false},  // MOVD
    {1, 1, 0x7E, false, 4, true, false, false, V, false},
    {0, 1, 0x12, false, 8, false, false, false, V, false},  // MOVLPS
    {0, 1, 0x13, false, 8, true, false, false, V, false},
    {0, 1, 0x16, false, 8, false, false, false, V, false},  // MOVHPS
    {0, 1, 0x17, false, 8, true, false, false, V, false},
    {1, 1, 0xE7, false, 16, true, true, false, V, false},    // MOVNTDQ
    {0, 1, 0x58, false, 16, false, true, false, V, false},   // ADDPS
    {3, 1, 0x59, false, 8, false, false, false, V, false},   // MULSD
    {2, 1, 0x5C, false, 4, false, false, false, V, false},   // SUBSS
    {1, 1, 0xFE, false, 16, false, true, false, V, false},   // PADDD
    {1, 1, 0xEF, false, 16, false, true, false, V, false},   // PXOR
    {1, 1, 0x70, false, 16, false, true, true, V, false},    // PSHUFD
    {1, 1, 0x74, false, 16, false, true, false, V, false},   // PCMPEQB
    {3, 1, 0x2A, true, 8, false, false, false, V, false},    // CVTSI2SD
    {2, 1, 0x2A, false, 4, false, false, false, V, false},   // CVTSI2SS
    {3, 1, 0x2C, true, 8, false, false, false, W, false},    // CVTTSD2SI
    {1, 1, 0x2E, false, 8, false, false, false, V, false},   // UCOMISD
    {0, 1, 0x2F, false, 4, false, false, false, V, false},   // COMISS
    {1, 1, 0xC4, false, 2, false, false, true, V, false},    // PINSRW
    {1, 3, 0x14, false, 1, true, false, true, V, false},     // PEXTRB
    {1, 3, 0x15, false, 2, true, false, true, V, false},     // PEXTRW
    {1, 3, 0x16, true, 8, true, false, true, V, false},      // PEXTRQ
    {1, 3, 0x22, false, 4, false, false, true, V, false},    // PINSRD
    {1, 2, 0x17, false, 16, false, true, false, V, false},   // PTEST
    {1, 2, 0x00, false, 16, false, true, false, V, false},   // PSHUFB
    {1, 2, 0xDC, false, 16, false, true, false, V, false},   // AESENC
    {3, 1, 0xF0, false, 16, false, false, false, V, false},  // LDDQU
    {0, 1, 0xC3, true, 8, true, false, false, G, false},     // MOVNTI
};

constexpr VectorForm kVex[] = {
    {0, 1, 0x10, false, 0, false, false, false, V, false},
    {0, 1, 0x11, false, 0, true, false, false, V, false},
    {2, 1, 0x6F, false, 0, false, false, false, V, false},
    {2, 1, 0x7F, false, 0, true, false, false, V, false},
    {1, 1, 0x6F, false, 0, false, true, false, V, false},
    {1, 1, 0x7F, false, 0, true, true, false, V, false},
    {0, 1, 0x58, false, 0, false, false, false, V, true},
    {1, 1, 0xFE, false, 0, false, false, false, V, true},
    {1, 1, 0xEF, false, 0, false, false, false, V, true},
    {3, 1, 0x10, false, 8, false, false, false, V, false, 1},
    {3, 1, 0x11, false, 8, true, false, false, V, false, 1},
    {1, 1, 0x6E, true, 8, false, false, false, V, false, 1},
    {1, 1, 0x7E, true, 8, true, false, false, V, false, 1},
    {3, 1, 0x5E, false, 8, false, false, false, V, true, 1},
    {1, 2, 0x18, false, 4, false, false, false, V, false, 3},
    {1, 2, 0x1A, false, 16, false, false, false, V, false, 2},
    {1, 3, 0x18, false, 16, false, false, true, V, true, 2},
    {1, 3, 0x19, false, 16, true, false, true, V, false, 2},
    {1, 2, 0x78, false, 1, false, false, false, V, false, 3},
    {1, 2, 0x30, false, 8, false, false, false, V, false, 1},
    {1, 2, 0xB8, true, 0, false, false, false, V, true, 3},
    {1, 2, 0x17, false, 0, false, false, false, V, false, 3},
    {0, 1, 0x90, true, 8, false, false, false, K, false, 1},
    {0, 1, 0x91, true, 8, true, false, false, K, false, 1},
    {1, 3, 0x0F, false, 0, false, false, true, V, true, 3},
};

constexpr VectorForm kEvex[] = {
    {0, 1, 0x10, false, 0, false, false, false, V, false},
    {0, 1, 0x11, false, 0, true, false, false, V, false},
    {1, 1, 0x10, true, 0, false, false, false, V, false},
    {1, 1, 0x11, true, 0, true, false, false, V, false},
    {3, 1, 0x6F, false, 0, false, false, false, V, false},
    {3, 1, 0x7F, false, 0, true, false, false, V, false},
    {2, 1, 0x6F, true, 0, false, false, false, V, false},
    {2, 1, 0x7F, true, 0, true, false, false, V, false},
    {0, 1, 0x28, false, 0, false, true, false, V, false},
    {0, 1, 0x29, false, 0, true, true, false, V, false},
    {0, 1, 0x58, false, 0, false, false, false, V, true},
    {1, 1, 0xFE, false, 0, false, false, false, V, true},
    {1, 3, 0x25, false, 0, false, false, true, V, true},
    {1, 3, 0x3E, false, 0, false, false, true, K, true},
    {1, 2, 0x18, false, 4, false, false, false, V, false},
    {1, 2, 0x59, true, 8, false, false, false, V, false},
    {1, 3, 0x39, false, 16, true, false, true, V, false, 6},
};

void set_legacy_prefix(Encoding& encoding, uint8_t prefix) {
  encoding.operand_size = prefix == 1;
  encoding.rep = prefix == 2;
  encoding.repne = prefix == 3;
}

}  // namespace

void Generator::sse() {
  const VectorForm& form = kSse[random_.below(std::size(kSse))];
  Encoding encoding;
  set_legacy_prefix(encoding, form.prefix);
  encoding.map = form.map;
  encoding.opcode = form.opcode;
  encoding.w = form.w;
  encoding.reg = form.reg == W ? destination() : any();
  encoding.immediate[0] = static_cast<uint8_t>(random_.next());
  memory(encoding, {.size = form.size,
                    .writes = form.writes,
                    .aligned = form.aligned,
                    .immediate = form.immediate ? 1u : 0});
  if (form.reg == W) forget(encoding.reg);
}

void Generator::vex() {
  if (random_.percent(6)) return raw({0xC5, 0xF8, 0x77});  // VZEROUPPER
  const VectorForm& form = kVex[random_.below(std::size(kVex))];
  Encoding encoding;
  encoding.scheme = Scheme::kVex;
  encoding.pp = form.prefix;
  encoding.map = form.map;
  encoding.opcode = form.opcode;
  encoding.w = form.w;
  do encoding.length = static_cast<uint8_t>(random_.below(2));
  while ((form.lengths >> encoding.length & 1) == 0);
  encoding.reg = form.reg == K ? static_cast<uint8_t>(random_.below(8)) : any();
  if (form.second) encoding.vvvv = any();
  encoding.immediate[0] = static_cast<uint8_t>(random_.next());
  memory(encoding, {.size = form.size == 0 ? 16u << encoding.length : form.size,
                    .writes = form.writes,
                    .aligned = form.aligned,
                    .immediate = form.immediate ? 1u : 0});
}

void Generator::evex() {
  if (program_.code32) return vex();
  const VectorForm& form = kEvex[random_.below(std::size(kEvex))];
  Encoding encoding;
  encoding.scheme = Scheme::kEvex;
  encoding.pp = form.prefix;
  encoding.map = form.map;
  encoding.opcode = form.opcode;
  encoding.w = form.w;
  do encoding.length = static_cast<uint8_t>(random_.percent(60) ? 2 : random_.below(3));
  while ((form.lengths >> encoding.length & 1) == 0);
  encoding.reg = static_cast<uint8_t>(random_.below(form.reg == K ? 8 : 32));
  if (form.second) encoding.vvvv = static_cast<uint8_t>(random_.below(32));
  if (random_.percent(30)) {
    encoding.opmask = static_cast<uint8_t>(1 + random_.below(7));
    encoding.zeroing = !form.writes && form.reg != K && random_.percent(50);
  }
  encoding.immediate[0] = static_cast<uint8_t>(random_.next());
  memory(encoding, {.size = form.size == 0 ? 16u << encoding.length : form.size,
                    .writes = form.writes,
                    .aligned = form.aligned,
                    .immediate = form.immediate ? 1u : 0});
}

void Generator::control_word() {
  Encoding encoding;
  encoding.map = 1;
  encoding.opcode = 0xAE;
  if (random_.percent(50)) {  // STMXCSR
    encoding.reg = 3;
    memory(encoding, {.size = 4, .writes = true});
    return;
  }
  encoding.reg = 2;  // LDMXCSR, of a value that is good
  encoding.mod = 0;
  encoding.rm = 5;
  put(encoding, 0,
      {.fix = Fix::kWindow,
       .target = static_cast<int32_t>(kMxcsrSlots + 4 * random_.below(kMxcsrCount))});
}

}  // namespace limen::conformance
