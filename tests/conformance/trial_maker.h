// Turns a form into trials.
#pragma once

#include "conformance/form.h"
#include "conformance/random.h"
#include "conformance/trial.h"

namespace limen::conformance {

/// Fills the memory image that a batch of trials of `form` shares.
void make_image(const Form& form, Random& random, Image& image);

/// Picks registers, addressing, operands and memory for one run of an instruction of `form`.
/// `image` is what the trial will find in memory.
/// The trap flag stops the run, or the INT3 behind the instruction does.
void make_trial(const Form& form, const Image& image, Random& random, Trial& trial);

}  // namespace limen::conformance
