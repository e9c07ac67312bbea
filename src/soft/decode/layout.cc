#include "soft/decode/layout.h"

namespace limen::soft::decode {
namespace {

/// What follows an opcode. kOdd: not known here.
enum class Tail : uint8_t {
  kOdd,
  kPrefix,  ///< It is one.
  kNothing,
  kByte,
  kWord,
  kSized,      ///< 2 or 4 bytes by the operand size.
  kWide,       ///< 2, 4 or 8 bytes by the operand size.
  kRelative8,  ///< A displacement of a branch.
  kRelative32,
  kOffset,  ///< An address of 32 bits.
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
  for (const unsigned prefix : {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3})
    map[prefix] = Tail::kPrefix;
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

/// The same in 32-bit code.
constexpr Map make_one_byte_32() {
  Map map = make_one_byte();
  set(map, 0x40, 0x4F, Tail::kNothing);  // INC, DEC
  map[0x63] = Tail::kOdd;                // ARPL
  map[0x67] = Tail::kOdd;                // 16-bit addresses
  map[0x82] = Tail::kOdd;                // another name of 80H
  set(map, 0xA0, 0xA3, Tail::kOffset);   // MOV
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

/// How an opcode with ModRM names registers.
enum class Names : uint8_t {
  kBoth,       ///< By reg and rm.
  kBytes,      ///< The same, and they are of 8 bits.
  kFromByte,   ///< The same, and rm is of 8 bits.
  kRm,         ///< By rm; reg is part of the opcode.
  kByteRm,     ///< The same, of 8 bits.
  kAddress,    ///< Only in a memory operand.
  kUnrelated,  ///< Not at all, or rm is part of the opcode.
};
using NamesMap = std::array<Names, 256>;

constexpr void set(NamesMap& map, unsigned first, unsigned last, Names names) {
  for (unsigned i = first; i <= last; ++i) map[i] = names;
}

constexpr NamesMap make_one_byte_names() {
  NamesMap map{};
  for (unsigned row = 0; row < 0x40; row += 8)
    map[row] = map[row + 2] = Names::kBytes;  // ADD OR ADC SBB AND SUB XOR CMP
  map[0x80] = map[0xC0] = map[0xD0] = map[0xD2] = map[0xF6] = map[0xFE] = Names::kByteRm;
  map[0x81] = map[0x83] = map[0xC1] = map[0xD1] = map[0xD3] = map[0xF7] = map[0xFF] = Names::kRm;
  map[0x84] = map[0x86] = map[0x88] = map[0x8A] = Names::kBytes;
  map[0xC6] = map[0xC7] = Names::kAddress;  // MOV; XABORT and XBEGIN
  map[0x8C] = map[0x8E] = Names::kUnrelated;
  map[0x8F] = Names::kUnrelated;  // POP or XOP
  set(map, 0xD8, 0xDF, Names::kAddress);
  return map;
}

constexpr NamesMap make_0f_names() {
  NamesMap map{};
  set(map, 0x00, 0x01, Names::kUnrelated);
  map[0x0D] = Names::kUnrelated;
  set(map, 0x18, 0x1F, Names::kUnrelated);
  set(map, 0x71, 0x73, Names::kRm);
  map[0x78] = map[0x79] = Names::kUnrelated;
  set(map, 0x90, 0x9F, Names::kBytes);  // SETcc
  map[0xAE] = map[0xB9] = map[0xC7] = Names::kUnrelated;
  map[0xB0] = map[0xC0] = Names::kBytes;     // CMPXCHG, XADD
  map[0xB6] = map[0xBE] = Names::kFromByte;  // MOVZX, MOVSX
  map[0xBA] = Names::kRm;
  map[0xF7] = map[0xFF] = Names::kUnrelated;  // MASKMOVQ has RDI as well
  return map;
}

constexpr NamesMap make_0f38_names() {
  NamesMap map{};
  set(map, 0x80, 0x82, Names::kUnrelated);
  map[0xD8] = Names::kUnrelated;  // AESENCWIDE128KL and its kind
  map[0xF0] = Names::kFromByte;   // CRC32
  return map;
}

constexpr NamesMap kOneByteNames = make_one_byte_names();
constexpr NamesMap k0fNames = make_0f_names();
constexpr NamesMap k0f38Names = make_0f38_names();

/// What is named, by `names`, whether rm is a register, and whether there is REX: without it four
/// of the registers of 8 bits are parts of others.
struct Named {
  bool reg = false, rm = false, address = false;
};
constexpr Named named(Names names, bool is_register, bool has_rex) {
  switch (names) {
    case Names::kBoth:
      return {true, is_register, !is_register};
    case Names::kBytes:
      return {has_rex, is_register && has_rex, !is_register};
    case Names::kFromByte:
      return {true, is_register && has_rex, !is_register};
    case Names::kRm:
      return {false, is_register, !is_register};
    case Names::kByteRm:
      return {false, is_register && has_rex, !is_register};
    case Names::kAddress:
      return {false, false, !is_register};
    default:
      return {};
  }
}
constexpr auto kNamed = [] {
  std::array<std::array<std::array<Named, 2>, 2>, 7> table{};
  for (unsigned names = 0; names < table.size(); ++names)
    for (unsigned i = 0; i < 4; ++i)
      table[names][i >> 1][i & 1] = named(static_cast<Names>(names), i >> 1 != 0, (i & 1) != 0);
  return table;
}();

constexpr Map kOneByte = make_one_byte();
constexpr Map kOneByte32 = make_one_byte_32();
constexpr Map k0f = make_0f();

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

enum class Sized : uint8_t { k32, k16, k64 };  // the operand size

/// What an immediate of `tail` takes; `is_test`: ModRM.reg is 0 or 1.
constexpr uint8_t immediate_size(Tail tail, Sized size, bool is_test) {
  const uint8_t sized = size == Sized::k16 ? 2 : 4;
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
      return size == Sized::k64 ? 8 : sized;
    case Tail::kTestByte:
      return is_test ? 1 : 0;
    case Tail::kTestSized:
      return is_test ? sized : 0;
    default:
      return 0;
  }
}
constexpr size_t kTails = static_cast<size_t>(Tail::kTestSized) + 1;
constexpr auto kImmediateSize = [] {
  std::array<std::array<std::array<uint8_t, 2>, 3>, kTails> table{};
  for (size_t tail = 0; tail < kTails; ++tail)
    for (unsigned i = 0; i < 6; ++i)
      table[tail][i >> 1][i & 1] =
          immediate_size(static_cast<Tail>(tail), static_cast<Sized>(i >> 1), (i & 1) != 0);
  return table;
}();

}  // namespace

// With tables in place of branches where these would be hard to predict.
void find_layout(CodeMode mode, const InstructionBytes& bytes, Layout& layout) {
  // What follows the prefixes and counts is at most six bytes: there is room.
  constexpr unsigned kMostPrefixes = 8;
  const bool wide = mode == CodeMode::k64;
  const Map& one_byte = wide ? kOneByte : kOneByte32;
  layout = {};
  bool operand_size = false;
  bool any_before_vex = false;  // with which VEX is no instruction
  unsigned at = 0;
  for (; at < kMostPrefixes && one_byte[bytes[at]] == Tail::kPrefix; ++at) {
    const uint8_t byte = bytes[at];
    operand_size = operand_size || byte == 0x66;
    any_before_vex = any_before_vex || byte == 0x66 || byte >= 0xF0;
  }
  if (at == kMostPrefixes) return;
  const bool has_rex = wide && (bytes[at] & 0xF0) == 0x40;
  const unsigned rex = has_rex ? bytes[at] : 0u;
  at += has_rex ? 1 : 0;
  const unsigned rex_end = has_rex ? at : 0u;
  uint8_t opcode = bytes[at++];
  Tail tail = one_byte[opcode];
  Names names = kOneByteNames[opcode];
  if (opcode == 0x0F) {
    opcode = bytes[at++];
    tail = k0f[opcode];
    names = k0fNames[opcode];
    if (opcode == 0x38) {
      names = k0f38Names[bytes[at++]];
      tail = Tail::kModrm;
    } else if (opcode == 0x3A) {
      names = bytes[at++] == 0xF0 ? Names::kUnrelated : Names::kBoth;  // HRESET
      tail = Tail::kModrmByte;
    }
  } else if (opcode == 0xC4 || opcode == 0xC5) {
    if (any_before_vex || has_rex) return;
    if (!wide && bytes[at] < 0xC0) return;  // LES, LDS
    const unsigned map = opcode == 0xC5 ? 1 : bytes[at] & 0x1Fu;
    at += opcode == 0xC5 ? 1 : 2;
    tail = vex_tail(map, bytes[at++]);
    names = Names::kUnrelated;
  }
  if (tail == Tail::kOdd || tail == Tail::kPrefix) return;
  // Processors of different makers differ in what the prefix means here.
  if (tail == Tail::kRelative32 && operand_size) return;

  unsigned reg = 0;
  if (tail >= Tail::kModrm) {
    layout.modrm = static_cast<uint8_t>(at);
    const uint8_t modrm = bytes[at++];
    const unsigned mod = modrm >> 6, rm = modrm & 7;
    reg = modrm >> 3 & 7;
    layout.sib = mod != 3 && rm == 4;
    const unsigned base = layout.sib ? bytes[at] & 7u : rm;
    at += layout.sib ? 1 : 0;
    const Named& is = kNamed[static_cast<size_t>(names)][mod == 3 ? 1 : 0][has_rex ? 1 : 0];
    layout.names_reg = is.reg;
    layout.names_rm = is.rm;
    layout.names_address = is.address;
    constexpr std::array<uint8_t, 4> kSizes = {0, 1, 4, 0};
    layout.displacement = mod == 0 && base == 5 ? 4 : kSizes[mod];
  }
  if (tail == Tail::kOffset) layout.displacement = 4;
  layout.rex = static_cast<uint8_t>(rex_end);
  layout.head = static_cast<uint8_t>(at);
  const Sized size = (rex & 8) != 0 ? Sized::k64 : operand_size ? Sized::k16 : Sized::k32;
  layout.immediate =
      kImmediateSize[static_cast<size_t>(tail)][static_cast<size_t>(size)][reg < 2 ? 1 : 0];
  layout.immediate_counts = tail == Tail::kModrmCount;
}

}  // namespace limen::soft::decode
