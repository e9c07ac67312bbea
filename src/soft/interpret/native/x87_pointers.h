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

/// Notes an instruction that has run, as far as the host would (SDM Vol. 1 8.1.8, 8.1.9).
inline void note_x87(x86::VectorState& state, const X87Pointers& pointers) {
  const bool pending = (image_field<uint16_t>(state, kStatusWordAt) & kErrorSummary) != 0;
  set_image_field(state, kInstructionPointerAt, pointers.instruction);
  if (pending || host_features().notes_x87_opcode)
    set_image_field(state, kOpcodeAt, pointers.opcode);
  if (pending || host_features().notes_x87_data)
    set_image_field(state, kDataPointerAt, pointers.data);
}

}  // namespace limen::soft::interpret::native
