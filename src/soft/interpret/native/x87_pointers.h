// The x87's pointers to its last instruction, where the host's are not the guest's.
#pragma once

#include "soft/interpret/native/host.h"
#include "soft/interpret/native/image.h"

namespace limen::soft::interpret::native {

struct X87Pointers {
  uint64_t instruction = 0;  ///< FIP
  uint16_t opcode = 0;       ///< FOP
  uint64_t data = 0;         ///< FDP
};

/// Notes an instruction that has run, as far as the host would (SDM Vol. 1 8.1.8, 8.1.9). `raised`:
/// it raised an exception that is not masked. A host that notes FDP only then (CPUID.7.0:EBX[6])
/// does so for an operand in memory of that very instruction.
inline void note_x87(x86::VectorState& state, const X87Pointers& pointers, bool raised) {
  constexpr uint16_t kRegisters = 0xC0;  // in the ModRM byte, FOP's lower half
  const bool in_memory = (pointers.opcode & kRegisters) != kRegisters;
  set_image_field(state, kInstructionPointerAt, pointers.instruction);
  if (raised || host_features().notes_x87_opcode)
    set_image_field(state, kOpcodeAt, pointers.opcode);
  if (host_features().notes_x87_data || (raised && in_memory))
    set_image_field(state, kDataPointerAt, pointers.data);
}

}  // namespace limen::soft::interpret::native
