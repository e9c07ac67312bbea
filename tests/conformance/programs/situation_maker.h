// Chooses where, and from what state, a program runs.
#pragma once

#include <vector>

#include "conformance/programs/machine.h"
#include "conformance/random.h"

namespace limen::conformance {

/// Situations for one program to run in, one after the other.
[[nodiscard]] std::vector<Situation> make_situations(const Program& program, Random& random,
                                                     size_t count);

/// Sets what depends on where the program's instructions are: RIP and the slots in memory.
void bind(const Program& program, Situation& situation);

/// Whether the native child has its pages as the situation has.
[[nodiscard]] bool is_native(const Situation& situation);

}  // namespace limen::conformance
