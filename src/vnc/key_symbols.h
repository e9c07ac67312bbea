// Which key of an American keyboard a symbol of X11's stands on.
#pragma once

#include <cstdint>
#include <optional>

#include "display/input.h"

namespace limen::vnc {

struct SymbolKey {
  display::KeyCode code = 0;
  /// What Shift has to be for it, where that tells symbols of the key apart.
  enum class Shift : uint8_t { kAny, kUp, kDown } shift = Shift::kAny;
  bool letter = false;  ///< Caps Lock works like Shift.
};

/// Layout en-us. Nothing: no key has it.
[[nodiscard]] std::optional<SymbolKey> find_symbol(uint32_t symbol);

}  // namespace limen::vnc
