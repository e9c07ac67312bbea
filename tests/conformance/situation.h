// What some instructions need to do anything of interest: selectors that exist, divisors that do
// not overflow, return frames, comparisons that succeed.
#pragma once

#include "conformance/form.h"
#include "conformance/random.h"
#include "conformance/trial.h"
#include "conformance/vary.h"

namespace limen::conformance {

/// Adjusts a trial whose registers are random and whose memory operands are aimed. False: make
/// another one, this one would lock memory across cache lines.
[[nodiscard]] bool arrange(const Form& form, const Image& image, Random& random, Concrete& concrete,
                           Trial& trial);

}  // namespace limen::conformance
