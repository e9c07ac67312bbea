#include "soft/decode/layout.h"

namespace limen::soft::decode {
namespace {

/// What follows an opcode. kOdd: not known here.
enum class Tail : uint8_t {
  kOdd,
  kNothing,
  kByte,
  kWord,
  kSized,      ///< 2 or 4 bytes by the operand size.
  kWide,       ///< 2, 4 or 8 bytes by the operand size.
  kRelative8,  ///< A displacement of a branch.
  kRelative32,
  // From here on behind ModRM.
  kModrm,
  kModrmByte,
  kModrmCount,  ///< A byte on which flags depend.
  kModrmSized,
  kTestByte,  ///< A byte if ModRM.reg is 0 or 1: TEST.
  kTestSized,
};

using Map = std::array<Tail, 256>;

constexpr void set(Map& map, unsigned first, unsigned last, Tail tail) {
  for (unsigned i = first; i <= last; ++i) map[i] = tail;
}

/// SDM Vol. 2D table A-2.
constexpr Map make_one_byte() {
  Map map{};
  for (unsigned row = 0; row < 0x40; row += 8) {  // ADD OR ADC SBB AND SUB XOR CMP
    set(map, row, row + 3, Tail::kModrm);
    map[row + 4] = Tail::kByte;
    map[row + 5] = Tail::kSized;
  }
  set(map, 0x50, 0x5F, Tail::kNothing);  // PUSH, POP
  map[0x63] = Tail::kModrm;              // MOVSXD
  map[0x68] = Tail::kSized;              // PUSH
  map[0x69] = Tail::kModrmSized;         // IMUL
  map[0x6A] = Tail::kByte;
  map[0x6B] = Tail::kModrmByte;
  set(map, 0x6C, 0x6F, Tail::kNothing);    // INS, OUTS
  set(map, 0x70, 0x7F, Tail::kRelative8);  // Jcc
  map[0x80] = map[0x83] = Tail::kModrmByte;
  map[0x81] = Tail::kModrmSized;
  set(map, 0x84, 0x8E, Tail::kModrm);    // TEST, XCHG, MOV, LEA; 8FH may be XOP
  set(map, 0x90, 0x99, Tail::kNothing);  // XCHG, CBW, CWD
  set(map, 0x9B, 0x9F, Tail::kNothing);  // FWAIT, PUSHF, POPF, SAHF, LAHF
  set(map, 0xA4, 0xA7, Tail::kNothing);  // MOVS, CMPS; A0H to A3H have an address
  map[0xA8] = Tail::kByte;               // TEST
  map[0xA9] = Tail::kSized;
  set(map, 0xAA, 0xAF, Tail::kNothing);                // STOS, LODS, SCAS
  set(map, 0xB0, 0xB7, Tail::kByte);                   // MOV
  set(map, 0xB8, 0xBF, Tail::kWide);                   // MOV
  map[0xC0] = map[0xC1] = Tail::kModrmCount;           // shifts
  map[0xC2] = Tail::kWord;                             // RET
  map[0xC3] = Tail::kNothing;                          // RET
  map[0xC6] = Tail::kModrmByte;                        // MOV
  map[0xC7] = Tail::kModrmSized;                       // MOV
  map[0xC9] = map[0xCC] = map[0xCF] = Tail::kNothing;  // LEAVE, INT3, IRET
  set(map, 0xD0, 0xD3, Tail::kModrm);                  // shifts
  map[0xD7] = Tail::kNothing;                          // XLAT
  set(map, 0xD8, 0xDF, Tail::kModrm);                  // x87
  set(map, 0xE0, 0xE3, Tail::kRelative8);              // LOOP, JRCXZ
  map[0xE8] = map[0xE9] = Tail::kRelative32;           // CALL, JMP
  map[0xEB] = Tail::kRelative8;                        // JMP
  set(map, 0xEC, 0xEF, Tail::kNothing);                // IN, OUT
  map[0xF4] = map[0xF5] = Tail::kNothing;              // HLT, CMC
  map[0xF6] = Tail::kTestByte;
  map[0xF7] = Tail::kTestSized;
  set(map, 0xF8, 0xFD, Tail::kNothing);  // CLC to STD
  map[0xFE] = map[0xFF] = Tail::kModrm;  // INC, DEC, CALL, JMP, PUSH
  return map;
}

/// SDM Vol. 2D table A-3.
constexpr Map make_0f() {
  Map map{};
  set(map, 0x00, 0x03, Tail::kModrm);
  set(map, 0x05, 0x09, Tail::kNothing);  // SYSCALL, CLTS, SYSRET, INVD, WBINVD
  map[0x0B] = Tail::kNothing;            // UD2
  map[0x0D] = Tail::kModrm;              // PREFETCHW
  set(map, 0x10, 0x1F, Tail::kModrm);
  set(map, 0x28, 0x2F, Tail::kModrm);    // 20H to 27H take no notice of ModRM.mod
  set(map, 0x30, 0x35, Tail::kNothing);  // WRMSR to SYSEXIT
  set(map, 0x40, 0x6F, Tail::kModrm);
  set(map, 0x70, 0x73, Tail::kModrmByte);
  set(map, 0x74, 0x76, Tail::kModrm);
  map[0x77] = Tail::kNothing;  // EMMS
  set(map, 0x7C, 0x7F, Tail::kModrm);
  set(map, 0x80, 0x8F, Tail::kRelative32);  // Jcc
  set(map, 0x90, 0x9F, Tail::kModrm);
  set(map, 0xA0, 0xA2, Tail::kNothing);
  map[0xA3] = map[0xA5] = Tail::kModrm;
  map[0xA4] = map[0xAC] = Tail::kModrmCount;  // SHLD, SHRD
  set(map, 0xA8, 0xAA, Tail::kNothing);
  map[0xAB] = Tail::kModrm;
  set(map, 0xAD, 0xB9, Tail::kModrm);
  map[0xBA] = Tail::kModrmByte;
  set(map, 0xBB, 0xC1, Tail::kModrm);
  map[0xC2] = Tail::kModrmByte;
  map[0xC3] = Tail::kModrm;
  set(map, 0xC4, 0xC6, Tail::kModrmByte);
  map[0xC7] = Tail::kModrm;
  set(map, 0xC8, 0xCF, Tail::kNothing);  // BSWAP
  set(map, 0xD0, 0xFF, Tail::kModrm);
  return map;
}

constexpr Map kOneByte = make_one_byte();
constexpr Map k0f = make_0f();

struct Prefixes {
  bool operand_size = false;
  bool rex_w = false;
  bool any_before_vex = false;  ///< Some with which VEX is no instruction.
};

/// The tail of an opcode of VEX's map `number`.
Tail vex_tail(unsigned number, uint8_t opcode) {
  switch (number) {
    case 1: {
      const Tail tail = k0f[opcode];
      return tail >= Tail::kModrm || opcode == 0x77 ? tail : Tail::kOdd;
    }
    case 2:
      return Tail::kModrm;
    case 3:
      return Tail::kModrmCount;
    default:
      return Tail::kOdd;
  }
}

/// What an immediate of `tail` takes.
unsigned immediate_size(Tail tail, const Prefixes& prefixes, unsigned modrm_reg) {
  const unsigned sized = prefixes.operand_size && !prefixes.rex_w ? 2 : 4;
  switch (tail) {
    case Tail::kByte:
    case Tail::kRelative8:
    case Tail::kModrmByte:
    case Tail::kModrmCount:
      return 1;
    case Tail::kWord:
      return 2;
    case Tail::kRelative32:
      return 4;
    case Tail::kSized:
    case Tail::kModrmSized:
      return sized;
    case Tail::kWide:
      return prefixes.rex_w ? 8 : sized;
    case Tail::kTestByte:
      return modrm_reg < 2 ? 1 : 0;
    case Tail::kTestSized:
      return modrm_reg < 2 ? sized : 0;
    default:
      return 0;
  }
}

}  // namespace

Layout find_layout(const InstructionBytes& bytes) {
  // What follows the prefixes and counts is at most six bytes: there is room.
  constexpr unsigned kMostPrefixes = 8;
  Prefixes prefixes;
  unsigned at = 0;
  for (; at < kMostPrefixes; ++at) {
    const uint8_t byte = bytes[at];
    if (byte == 0x66)
      prefixes.operand_size = prefixes.any_before_vex = true;
    else if (byte == 0xF0 || byte == 0xF2 || byte == 0xF3)
      prefixes.any_before_vex = true;
    else if ((byte & 0xE7) != 0x26 && byte != 0x64 && byte != 0x65 && byte != 0x67)
      break;
  }
  if (at == kMostPrefixes) return {};
  if ((bytes[at] & 0xF0) == 0x40) {
    prefixes.rex_w = (bytes[at] & 8) != 0;
    prefixes.any_before_vex = true;
    ++at;
  }
  uint8_t opcode = bytes[at++];
  Tail tail = kOneByte[opcode];
  if (opcode == 0x0F) {
    opcode = bytes[at++];
    tail = k0f[opcode];
    if (opcode == 0x38 || opcode == 0x3A) {
      ++at;
      tail = opcode == 0x38 ? Tail::kModrm : Tail::kModrmByte;
    }
  } else if (opcode == 0xC4 || opcode == 0xC5) {
    if (prefixes.any_before_vex) return {};
    const unsigned map = opcode == 0xC5 ? 1 : bytes[at] & 0x1Fu;
    at += opcode == 0xC5 ? 1 : 2;
    tail = vex_tail(map, bytes[at++]);
  }
  if (tail == Tail::kOdd) return {};
  // Processors of different makers differ in what the prefix means here.
  if (tail == Tail::kRelative32 && prefixes.operand_size) return {};

  Layout layout;
  unsigned reg = 0;
  if (tail >= Tail::kModrm) {
    const uint8_t modrm = bytes[at++];
    const unsigned mod = modrm >> 6, rm = modrm & 7;
    reg = modrm >> 3 & 7;
    bool absolute = mod == 0 && rm == 5;
    if (mod != 3 && rm == 4) {
      const uint8_t sib = bytes[at++];
      absolute = mod == 0 && (sib & 7) == 5;
    }
    layout.displacement = absolute || mod == 2 ? 4 : mod == 1 ? 1 : 0;
  }
  layout.head = static_cast<uint8_t>(at);
  layout.immediate = static_cast<uint8_t>(immediate_size(tail, prefixes, reg));
  layout.immediate_counts = tail == Tail::kModrmCount;
  return layout;
}

}  // namespace limen::soft::decode
