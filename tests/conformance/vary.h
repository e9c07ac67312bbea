// Another encoding of the same form: other registers, another addressing mode, other immediates.
#pragma once

#include "conformance/form.h"
#include "conformance/random.h"

namespace limen::conformance {

struct Concrete {
  Bytes bytes;  ///< Exactly the instruction.
  soft::decode::Instruction instruction;
};

void vary(const Form& form, Random& random, Concrete& out);

}  // namespace limen::conformance
