// What the translator knows of one guest instruction: how it is carried over, which flags and
// registers it needs.
#pragma once

#include <cstdint>

#include "soft/decode/decoder.h"
#include "soft/interpret/native/features.h"
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

  [[nodiscard]] uint8_t bits() const {
    return static_cast<uint8_t>((user ? 1 : 0) | (sse ? 2 : 0) | (avx ? 4 : 0) | (avx512 ? 8 : 0) |
                                (tsc ? 16 : 0) | (base ? 32 : 0));
  }
};

enum class Kind : uint8_t {
  kPlain,    ///< The instruction itself, its memory operand translated.
  kAddress,  ///< LEA.
  kNothing,  ///< A hint: NOP, PREFETCH.
  kPush,     ///< PUSH r64, imm, m64.
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
  kPushFlags,  ///< PUSHFQ.
  kReadTsc,    ///< RDTSC, RDTSCP.
  // From here on in emit_system.cc.
  kStringOnce,    ///< MOVS, STOS, LODS without REP.
  kDirection,     ///< CLD, STD.
  kPopFlags,      ///< POPFQ.
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

struct Item {
  decode::Instruction instruction;
  uint64_t rip = 0;
  Kind kind = Kind::kInterpret;
  uint8_t flags_read = 0;
  uint8_t flags_written = 0;  ///< Whatever they were before.
  bool flags_live = false;    ///< Some flag that stands before the instruction is needed later.
  bool ends_block = false;    ///< What follows is not known before it has run.
  // The memory operand, if there is one (of kPlain and whatever goes through r/m).
  bool has_memory = false;
  bool reads_memory = false;
  bool writes_memory = false;
  uint16_t memory_size = 0;     ///< Bytes.
  bool faults_plainly = true;   ///< Where paging forbids an access, #PF is what is due.
  bool high_byte = false;       ///< The register operand is AH, CH, DH or BH.
  uint8_t memory_operand = 0;   ///< Index in instruction.operands.
  uint16_t registers_read = 0;  ///< General registers outside the memory operand, a bit each.
  uint16_t registers_written = 0;
  // Windows (windows.h) by number; 0: none.
  uint8_t window = 0;          ///< Of the memory operand.
  uint8_t stack_window = 0;    ///< Of what PUSH, POP, CALL, RET and LEAVE do to the stack.
  bool inside_window = false;  ///< Counts on a window that is open already.
  Counter counter = Counter::kNone;
  bool loops = false;  ///< kBranch to the block's start, which follows once more in the block.

  [[nodiscard]] uint64_t next() const { return rip + instruction.length(); }
  /// Target of a direct jump, call or branch.
  [[nodiscard]] uint64_t target() const { return next() + instruction.operands[0].imm.value.u; }
  [[nodiscard]] const ZydisDecodedOperand& memory() const {
    return instruction.operands[memory_operand];
  }
};

inline constexpr uint8_t kAllFlags = 0x3F;  ///< CF PF AF ZF SF OF.

/// Classifies item.instruction and fills in the rest of `item` but rip and flags_live.
void classify(Item& item, CodeKind kind, const x86::CpuidTable& cpuid);

/// Number of the general register that `reg` is (part of).
[[nodiscard]] uint8_t general_number(ZydisRegister reg);

}  // namespace limen::soft::translate
