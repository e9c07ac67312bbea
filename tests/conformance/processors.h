// What processors of different makers and generations do differently, where the manuals leave it
// open or contradict each other. not_covered.md lists it for a person.
#pragma once

#include "conformance/trial.h"
#include "soft/decode/decoder.h"

namespace limen::conformance {

/// Whether the outcome of the trial depends on which processor the host is.
[[nodiscard]] bool varies(const soft::decode::Instruction& instruction, const Trial& trial,
                          const Outcome& expected, const Outcome& got);

/// A CALL to an address that is not canonical: some processors push before they find out.
[[nodiscard]] bool may_have_pushed(const soft::decode::Instruction& instruction, uint8_t vector);

/// Takes what varies out of two outcomes that are to be compared: RF and the arithmetic flags of a
/// string instruction that was interrupted, the upper halves of registers that 32-bit addresses
/// use, what a gather that faults leaves of its mask.
void forget_varying(const soft::decode::Instruction& instruction, const Trial& trial,
                    Outcome& expected, Outcome& got);

}  // namespace limen::conformance
