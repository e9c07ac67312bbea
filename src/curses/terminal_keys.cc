#include "curses/terminal_keys.h"

#include <array>
#include <optional>
#include <string_view>

// Behind the others: it defines macros with plain names.
#include <curses.h>

namespace limen::curses {
namespace {

using display::kExtended;
using display::KeyCode;

constexpr KeyCode kShift = 0x2A, kControl = 0x1D, kAlt = 0x38;

/// The keys with two characters, row by row from their first scan code.
struct Row {
  KeyCode first;
  std::string_view plain, shifted;
};
constexpr std::array kRows = {
    Row{0x02, "1234567890-=", "!@#$%^&*()_+"},
    Row{0x10, "qwertyuiop[]", "QWERTYUIOP{}"},
    Row{0x1E, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    Row{0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
    Row{0x39, " ", ""},
};

/// 0: no key.
KeyCode key_of_character(char c, bool& shift) {
  for (const auto& row : kRows) {
    if (const auto at = row.plain.find(c); at != std::string_view::npos)
      return static_cast<KeyCode>(row.first + at);
    if (const auto at = row.shifted.find(c); at != std::string_view::npos) {
      shift = true;
      return static_cast<KeyCode>(row.first + at);
    }
  }
  return 0;
}

KeyCode key_of_function(uint32_t code) {
  switch (code) {
    case KEY_UP:
      return 0x48 | kExtended;
    case KEY_DOWN:
      return 0x50 | kExtended;
    case KEY_LEFT:
      return 0x4B | kExtended;
    case KEY_RIGHT:
      return 0x4D | kExtended;
    case KEY_HOME:
      return 0x47 | kExtended;
    case KEY_END:
      return 0x4F | kExtended;
    case KEY_PPAGE:
      return 0x49 | kExtended;
    case KEY_NPAGE:
      return 0x51 | kExtended;
    case KEY_IC:
      return 0x52 | kExtended;
    case KEY_DC:
      return 0x53 | kExtended;
    case KEY_BACKSPACE:
      return 0x0E;
    case KEY_ENTER:
      return 0x1C | kExtended;
    case KEY_BTAB:
      return 0x0F;
    default:
      break;
  }
  if (code >= KEY_F(1) && code <= KEY_F(10)) return static_cast<KeyCode>(0x3B + code - KEY_F(1));
  if (code == KEY_F(11)) return 0x57;
  if (code == KEY_F(12)) return 0x58;
  return 0;
}

}  // namespace

std::vector<KeyCode> keys_of_terminal(uint32_t code, bool function, bool alt) {
  constexpr uint32_t kEscape = 27, kDelete = 127, kLastControl = 26;
  bool shift = false, control = false;
  KeyCode key = 0;
  if (function) {
    key = key_of_function(code);
    shift = code == KEY_BTAB;
  } else if (code == '\r' || code == '\n') {
    key = 0x1C;
  } else if (code == '\t') {
    key = 0x0F;
  } else if (code == kEscape) {
    key = 0x01;
  } else if (code == kDelete || code == '\b') {
    key = 0x0E;
  } else if (code >= 1 && code <= kLastControl) {
    control = true;
    key = key_of_character(static_cast<char>('a' + code - 1), shift);
  } else if (code < kDelete) {
    key = key_of_character(static_cast<char>(code), shift);
  }
  if (key == 0) return {};
  std::vector<KeyCode> keys;
  if (control) keys.push_back(kControl);
  if (alt) keys.push_back(kAlt);
  if (shift) keys.push_back(kShift);
  keys.push_back(key);
  return keys;
}

wchar_t unicode_of_437(uint8_t character) {
  constexpr std::wstring_view kLow =
      L" \u263A\u263B\u2665\u2666\u2663\u2660\u2022\u25D8\u25CB\u25D9\u2642\u2640\u266A\u266B\u263C"
      L"\u25BA\u25C4\u2195\u203C\u00B6\u00A7\u25AC\u21A8\u2191\u2193\u2192\u2190\u221F\u2194\u25B2"
      L"\u25BC";
  constexpr std::wstring_view kHigh =
      L"\u2302\u00C7\u00FC\u00E9\u00E2\u00E4\u00E0\u00E5\u00E7\u00EA\u00EB\u00E8\u00EF\u00EE\u00EC"
      L"\u00C4\u00C5\u00C9\u00E6\u00C6\u00F4\u00F6\u00F2\u00FB\u00F9\u00FF\u00D6\u00DC\u00A2\u00A3"
      L"\u00A5\u20A7\u0192\u00E1\u00ED\u00F3\u00FA\u00F1\u00D1\u00AA\u00BA\u00BF\u2310\u00AC\u00BD"
      L"\u00BC\u00A1\u00AB\u00BB\u2591\u2592\u2593\u2502\u2524\u2561\u2562\u2556\u2555\u2563\u2551"
      L"\u2557\u255D\u255C\u255B\u2510\u2514\u2534\u252C\u251C\u2500\u253C\u255E\u255F\u255A\u2554"
      L"\u2569\u2566\u2560\u2550\u256C\u2567\u2568\u2564\u2565\u2559\u2558\u2552\u2553\u256B\u256A"
      L"\u2518\u250C\u2588\u2584\u258C\u2590\u2580\u03B1\u00DF\u0393\u03C0\u03A3\u03C3\u00B5\u03C4"
      L"\u03A6\u0398\u03A9\u03B4\u221E\u03C6\u03B5\u2229\u2261\u00B1\u2265\u2264\u2320\u2321\u00F7"
      L"\u2248\u00B0\u2219\u00B7\u221A\u207F\u00B2\u25A0\u00A0";
  static_assert(kLow.size() == 0x20 && kHigh.size() == 0x81);
  if (character < 0x20) return kLow[character];
  return character < 0x7F ? static_cast<wchar_t>(character) : kHigh[character - 0x7FU];
}

}  // namespace limen::curses
