// Accesses that share one check of the soft TLB.
#pragma once

#include <span>

#include "soft/translate/item.h"

namespace limen::soft::translate {

/// Looks through a block for accesses that reach bytes near each other through registers whose
/// difference is known, and fills in WindowUse and `inside_window` of its items. `poll_at`: before
/// this item the code may be left and entered again.
void find_windows(std::span<Item> items, size_t poll_at);

}  // namespace limen::soft::translate
