// Instructions of this folder's classes that are written out rather than run by a thunk.
#pragma once

#include "soft/decode/decoder.h"
#include "soft/interpret/operation.h"

namespace limen::soft::interpret::native {

// Each returns nullptr for instructions of the others; fills in what its handlers need.

/// FWAIT, FNSTENV, FNSAVE, FLDENV, FRSTOR, EMMS.
Handler select_x87_environment(const decode::Instruction& instruction);

/// FXSAVE and XSAVE families, LDMXCSR, STMXCSR.
Handler select_state_area(const decode::Instruction& instruction, Operation& operation, Cpu& cpu);

/// Gathers and scatters.
Handler select_gather(const decode::Instruction& instruction, Operation& operation);

/// MASKMOVQ, MASKMOVDQU, MOVDIR64B, VZEROUPPER, VZEROALL, RDSSP.
Handler select_miscellaneous(const decode::Instruction& instruction, Operation& operation);

/// Vector moves that are faster as copies of bytes than as thunks.
Handler select_move(const decode::Instruction& instruction, Operation& operation);

}  // namespace limen::soft::interpret::native
