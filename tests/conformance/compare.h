// What two outcomes of one trial differ in, for a person to read.
#pragma once

#include <string>

#include "conformance/form.h"
#include "conformance/trial.h"

namespace limen::conformance {

/// One line for each difference, "" for none. Flags that the architecture leaves undefined, and
/// what is left of some registers and memory by a fault, are not looked at unless `strict`.
[[nodiscard]] std::string differences(const soft::decode::Instruction& instruction,
                                      const Trial& trial, const Outcome& expected,
                                      const Outcome& got, bool strict);

/// Whether its operand is read or written in parts, in an order of the processor's own: which of
/// them a page fault names is not defined.
[[nodiscard]] bool has_parts(const soft::decode::Instruction& instruction);

/// Whether the x87's instruction and data pointers count: the host's kernel, which tells of the
/// child, may have lost them.
enum class Pointers : uint8_t { kAsTheHostSavesThem, kCompared };

/// What two vector states differ in.
[[nodiscard]] std::string differences(const x86::VectorState& expected, const x86::VectorState& got,
                                      Pointers pointers);

/// The trial's bytes, disassembly and the registers that the instruction names.
[[nodiscard]] std::string describe(const soft::decode::Instruction& instruction,
                                   const Trial& trial);

}  // namespace limen::conformance
