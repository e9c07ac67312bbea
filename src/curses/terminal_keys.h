// What a terminal sends for a key, and the keys of a keyboard that make the same.
#pragma once

#include <cstdint>
#include <vector>

#include "display/input.h"

namespace limen::curses {

/// The keys to press, one after the other, and to let go in reverse; empty: no key makes it.
/// `code`: what get_wch() gave; `function`: it is one of curses' KEY_ numbers; `alt`: Esc stood
/// before it.
[[nodiscard]] std::vector<display::KeyCode> keys_of_terminal(uint32_t code, bool function,
                                                             bool alt);

/// What a character of code page 437 looks like in Unicode.
[[nodiscard]] wchar_t unicode_of_437(uint8_t character);

}  // namespace limen::curses
