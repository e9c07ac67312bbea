// Points an instruction's memory operands at the pages that both processors share.
#pragma once

#include <optional>

#include "conformance/random.h"
#include "conformance/trial.h"
#include "conformance/vary.h"

namespace limen::conformance {

/// Chooses a linear address for an operand of `size` bytes: mostly inside the pages, aligned or
/// not, sometimes across a page's end, unmapped, read-only, not canonical or the kernel's.
[[nodiscard]] uint64_t choose_address(Random& random, uint64_t size, bool wide, bool locked);

/// Sets base, index, segment base or displacement so that the operand lies at `target` (as nearly
/// as its addressing mode can).
void aim(const ZydisDecodedOperand& operand, uint64_t target, Random& random, Concrete& concrete,
         Registers& registers);

/// The linear address of the operand as things stand; nothing for addresses in vectors.
[[nodiscard]] uint64_t linear_address(const ZydisDecodedOperand& operand, const Concrete& concrete,
                                      const Registers& registers);

/// Index of `linear` in the memory image, if [linear, linear + size) lies in one writable page.
[[nodiscard]] std::optional<uint16_t> image_offset(uint64_t linear, uint64_t size);

}  // namespace limen::conformance
