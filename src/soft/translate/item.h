// What the translator knows of one guest instruction: how it is carried over, which flags and
// registers it needs.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "soft/decode/decoder.h"
#include "soft/decode/layout.h"
#include "soft/interpret/native/features.h"
#include "soft/translate/jump_tables.h"
#include "x86/cpuid.h"

namespace limen::soft::translate {

/// What decides, beside the bytes, how code is translated: blocks are kept by it.
struct CodeKind {
  bool user = false;    ///< CPL 3.
  bool sse = false;     ///< SSE instructions run as they are (CR0.EM, CR0.TS, CR4.OSFXSR).
  bool avx = false;     ///< The same for AVX: CR4.OSXSAVE, XCR0.
  bool avx512 = false;  ///< The same for AVX-512.
  bool tsc = false;     ///< RDTSC may be used (CPL 0, or not CR4.TSD).
  bool base = false;    ///< RDFSBASE and its kind may be used (CR4.FSGSBASE).
  bool x87 = false;     ///< x87 and MMX instructions run as they are (CR0.EM, CR0.TS).
  bool code32 = false;  ///< 32-bit code (CS.L 0, CS.D 1), in flat segments; otherwise 64-bit code.

  [[nodiscard]] uint8_t bits() const {
    return static_cast<uint8_t>((user ? 1 : 0) | (sse ? 2 : 0) | (avx ? 4 : 0) | (avx512 ? 8 : 0) |
                                (tsc ? 16 : 0) | (base ? 32 : 0) | (x87 ? 64 : 0) |
                                (code32 ? 128 : 0));
  }
  /// Everything but what has a jump table of its own.
  static unsigned common(unsigned bits) { return bits & 0x7E; }
  static size_t table_of(unsigned bits) {
    return JumpTables::table_of((bits & 1) != 0, (bits & 128) != 0);
  }
  [[nodiscard]] size_t table() const { return JumpTables::table_of(user, code32); }
  [[nodiscard]] decode::CodeMode mode() const {
    return code32 ? decode::CodeMode::k32 : decode::CodeMode::k64;
  }
  /// Bytes of an address, and of what PUSH, CALL and their kind move.
  [[nodiscard]] uint8_t word() const { return code32 ? 4 : 8; }
};

enum class Kind : uint8_t {
  kPlain,    ///< The instruction itself, its memory operand translated.
  kAddress,  ///< LEA.
  kNothing,  ///< A hint: NOP, PREFETCH.
  kPush,     ///< PUSH r64, imm, m64; in 32-bit code all of them of 32 bits, as below.
  kPop,      ///< POP r64.
  kLeave,
  kCall,       ///< CALL rel.
  kCallAway,   ///< CALL r/m64.
  kJump,       ///< JMP rel.
  kJumpAway,   ///< JMP r/m64.
  kReturn,     ///< RET.
  kBranch,     ///< Jcc, JRCXZ, LOOP.
  kBitTest,    ///< BT, BTS, BTR, BTC m, r.
  kString,     ///< REP MOVS, REP STOS.
  kPushFlags,  ///< PUSHFQ, PUSHFD.
  kReadTsc,    ///< RDTSC, RDTSCP.
  // From here on in emit_system.cc.
  kStringOnce,    ///< MOVS, STOS, LODS, CMPS, SCAS without REP.
  kDirection,     ///< CLD, STD.
  kPopFlags,      ///< POPFQ, POPFD.
  kReadSelector,  ///< MOV r, Sreg.
  kReadBase,      ///< RDFSBASE, RDGSBASE.
  kWriteBase,     ///< WRFSBASE, WRGSBASE.
  kSerialize,
  kPause,
  kSystemCall,  ///< SYSCALL, at CPL 3.
  // At CPL 0.
  kSystemReturn,     ///< SYSRETQ.
  kInterruptReturn,  ///< IRETQ.
  kReadControl,      ///< MOV r, CR0, CR2, CR3, CR4.
  kLoadCr3,          ///< MOV CR3, r.
  kInvalidatePage,   ///< INVLPG.
  kClearInterrupt,
  kSetInterrupt,
  kSwapGs,
  kSetAc,
  kClearAc,
  kInterpret,  ///< Everything else is the interpreter's.
};

/// What a kBranch has to do with RCX.
enum class Counter : uint8_t {
  kNone,     ///< Jcc.
  kIsZero,   ///< JRCXZ.
  kLoop,     ///< LOOP.
  kUnknown,  ///< Others.
};

using interpret::native::X87;

inline constexpr uint8_t kNoGeneral = 16;  ///< In place of a general register's number.

/// A memory operand.
struct Address {
  bool operator==(const Address&) const = default;
  enum class Segment : uint8_t { kFlat, kFs, kGs };
  uint8_t base = kNoGeneral;
  uint8_t index = kNoGeneral;
  uint8_t scale = 0;  ///< Of the index: a shift.
  Segment segment = Segment::kFlat;
  bool relative = false;  ///< To RIP or EIP.
  bool wide = true;       ///< Of 64 bits, not of 32.
};

struct Operand {
  bool operator==(const Operand&) const = default;
  enum class Type : uint8_t { kNone, kGeneral, kOtherRegister, kMemory, kImmediate };
  Type type = Type::kNone;
  uint8_t number = kNoGeneral;  ///< kGeneral: of the whole register. kOtherRegister: in its class.
  uint8_t size = 0;             ///< Of a register: bytes.

  [[nodiscard]] bool is_general() const { return type == Type::kGeneral; }
};

enum class Encoding : uint8_t { kLegacy, kVex, kEvex };

/// What an instruction is whatever its displacement and, mostly, its immediate are.
struct Form {
  bool operator==(const Form&) const = default;
  Kind kind = Kind::kInterpret;
  Counter counter = Counter::kNone;
  uint8_t flags_read = 0;
  uint8_t flags_written = 0;    ///< Whatever they were before.
  bool ends_block : 1 = false;  ///< What follows is not known before it has run.
  // The memory operand, if there is one (of kPlain and whatever goes through r/m).
  bool has_memory : 1 = false;
  bool reads_memory : 1 = false;
  bool writes_memory : 1 = false;
  bool faults_plainly : 1 = true;  ///< Where paging forbids an access, #PF is what is due.
  bool high_byte : 1 = false;      ///< The register operand is AH, CH, DH or BH.
  bool stays_inside : 1 = false;   ///< kPlain that can neither fault nor leave the block.
  bool code32 : 1 = false;         ///< CodeKind::code32.
  uint8_t operand_size = 0;        ///< Bytes.
  uint16_t memory_size = 0;        ///< Bytes.
  uint16_t registers_read = 0;     ///< General registers outside the memory operand, a bit each.
  uint16_t registers_written = 0;
  uint16_t mnemonic = 0;  ///< ZydisMnemonic.
  X87 x87 = X87::kNothing;
  Address address;
  std::array<Operand, 2> operands;  ///< The first ones, hidden ones included.

  // The bytes.
  Encoding encoding = Encoding::kLegacy;
  uint8_t prefix_count = 0;            ///< Legacy ones, and REX.
  std::array<uint8_t, 3> extension{};  ///< REX, or 0; VEX as that of three bytes; EVEX.
  uint8_t map = 0;                     ///< ZydisOpcodeMap.
  uint8_t opcode = 0;
  uint8_t modrm_reg = 0;            ///< Without its extension.
  uint8_t named_reg = kNoGeneral;   ///< The general register in ModRM.reg.
  uint8_t named_vvvv = kNoGeneral;  ///< The one in VEX.vvvv.
  uint8_t displacement_offset = 0;  ///< From the first byte.
  uint8_t displacement_size = 0;
  uint8_t immediate_offset = 0;
  uint8_t immediate_size = 0;  ///< 0: there is none.

  [[nodiscard]] bool is(ZydisMnemonic of) const { return mnemonic == of; }
  [[nodiscard]] bool rex_w() const {
    return encoding == Encoding::kLegacy && (extension[0] & 8) != 0;
  }
};

/// A form at a place in a block.
struct Item : Form {
  bool operator==(const Item&) const = default;
  uint64_t rip = 0;
  int64_t immediate = 0;  ///< Sign-extended; a branch's displacement.
  int32_t displacement = 0;
  uint8_t length = 0;
  bool flags_live = false;  ///< Some flag that stands before the instruction is needed later.
  // Windows (windows.h) by number; 0: none.
  uint8_t window = 0;          ///< Of the memory operand.
  uint8_t stack_window = 0;    ///< Of what PUSH, POP, CALL, RET and LEAVE do to the stack.
  bool inside_window = false;  ///< Counts on a window that is open already.
  bool loops = false;  ///< kBranch to the block's start, which follows once more in the block.
  // Set by place_x87_checks().
  bool checks_x87 = false;  ///< Its code begins with a check that the x87 state is loaded.
  bool inside_x87 = false;  ///< Counts on one before it, or stands between that and who does.
  decode::InstructionBytes bytes{};  ///< What stands behind `length` of them means nothing.

  [[nodiscard]] uint64_t next() const { return rip + length; }
  /// Target of a direct jump, call or branch.
  [[nodiscard]] uint64_t target() const {
    const uint64_t sum = next() + static_cast<uint64_t>(immediate);
    return code32 ? static_cast<uint32_t>(sum) : sum;
  }
  /// What a RIP-relative memory operand names.
  [[nodiscard]] uint64_t relative_target() const {
    return next() + static_cast<uint64_t>(int64_t{displacement});
  }
  [[nodiscard]] std::span<const uint8_t> code() const { return std::span(bytes).first(length); }
  [[nodiscard]] bool has_prefix(uint8_t value) const {
    return std::find(bytes.begin(), bytes.begin() + prefix_count, value) !=
           bytes.begin() + prefix_count;
  }
};

inline constexpr uint8_t kAllFlags = 0x3F;  ///< CF PF AF ZF SF OF.

/// The form of an instruction of such code. Of kInterpret it does not say whether it ends a block.
[[nodiscard]] Form classify(const decode::Instruction& instruction, CodeKind kind,
                            const x86::CpuidTable& cpuid);

}  // namespace limen::soft::translate
