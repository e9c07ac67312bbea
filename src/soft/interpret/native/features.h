// Which instructions this folder runs, and whether the guest's CPUID shows them.
#pragma once

#include "soft/decode/decoder.h"
#include "x86/cpuid.h"

namespace limen::soft::interpret::native {

enum class Availability {
  kForeign,  ///< Not an instruction that a copy can run: someone else's, or nobody's.
  kHidden,   ///< The guest's CPUID says that the processor does not have it: #UD.
  kAvailable,
};

/// Looks up the instruction's set in the guest's CPUID (SDM Vol. 1 5, table 5-1; Vol. 2A CPUID).
/// What every x86-64 processor has (x87, MMX, SSE, SSE2, CMOV) needs no bit.
[[nodiscard]] Availability availability(const decode::Instruction& instruction,
                                        const x86::CpuidTable& cpuid);

/// What must hold in the control registers for the instruction to run.
enum class Check : uint8_t {
  kNone,
  kX87,         ///< CR0.EM or TS: #NM.
  kMmx,         ///< CR0.EM: #UD, TS: #NM.
  kSse,         ///< CR0.EM or not CR4.OSFXSR: #UD, TS: #NM.
  kVexGeneral,  ///< VEX on general registers: protected mode only.
  kAvx,         ///< Protected mode, CR4.OSXSAVE, XCR0 SSE and AVX: else #UD; TS: #NM.
  kAvx512,      ///< As kAvx with opmask, ZMM_Hi256 and Hi16_ZMM.
};

/// The class of checks by encoding and operands (SDM Vol. 2A 2.4 to 2.8, Vol. 3A 13.1).
[[nodiscard]] Check required_check(const decode::Instruction& instruction);

/// True for instructions that read or write the x87 register stack, MMX ones included.
[[nodiscard]] bool uses_x87_state(const decode::Instruction& instruction);

/// What an instruction has to do with the x87 state.
enum class X87 : uint8_t {
  kNothing,
  kUses,
  kIsNoted,  ///< Uses it, and the pointers tell of it afterwards (SDM Vol. 1 8.1.8).
};
[[nodiscard]] X87 x87_use(const decode::Instruction& instruction);

/// True unless MXCSR can neither change the result nor be changed.
[[nodiscard]] bool uses_mxcsr(const decode::Instruction& instruction);

}  // namespace limen::soft::interpret::native
