#include "vnc/key_symbols.h"

#include <array>
#include <string_view>
#include <utility>

namespace limen::vnc {
namespace {

using display::kExtended;
using display::KeyCode;

/// The keys with two characters, row by row from their first scan code.
struct Row {
  KeyCode first;
  std::string_view plain;
  std::string_view shifted;
};
constexpr std::array kRows = {
    Row{0x02, "1234567890-=", "!@#$%^&*()_+"},
    Row{0x10, "qwertyuiop[]", "QWERTYUIOP{}"},
    Row{0x1E, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
    Row{0x2B, "\\zxcvbnm,./", "|ZXCVBNM<>?"},
};

using Pair = std::pair<uint32_t, KeyCode>;
/// Symbols of X11's keysymdef.h.
constexpr std::array kOthers = {
    Pair{0x0020, 0x39},              // space
    Pair{0xFF08, 0x0E},              // BackSpace
    Pair{0xFF09, 0x0F},              // Tab
    Pair{0xFE20, 0x0F},              // ISO_Left_Tab
    Pair{0xFF0A, 0x1C},              // Linefeed
    Pair{0xFF0D, 0x1C},              // Return
    Pair{0xFF13, display::kPause},   // Pause
    Pair{0xFF6B, display::kPause},   // Break
    Pair{0xFF14, 0x46},              // Scroll_Lock
    Pair{0xFF15, 0x37 | kExtended},  // Sys_Req
    Pair{0xFF61, 0x37 | kExtended},  // Print
    Pair{0xFF1B, 0x01},              // Escape
    Pair{0xFF50, 0x47 | kExtended},  // Home
    Pair{0xFF51, 0x4B | kExtended},  // Left
    Pair{0xFF52, 0x48 | kExtended},  // Up
    Pair{0xFF53, 0x4D | kExtended},  // Right
    Pair{0xFF54, 0x50 | kExtended},  // Down
    Pair{0xFF55, 0x49 | kExtended},  // Page_Up
    Pair{0xFF56, 0x51 | kExtended},  // Page_Down
    Pair{0xFF57, 0x4F | kExtended},  // End
    Pair{0xFF63, 0x52 | kExtended},  // Insert
    Pair{0xFFFF, 0x53 | kExtended},  // Delete
    Pair{0xFF67, 0x5D | kExtended},  // Menu
    Pair{0xFF7F, 0x45},              // Num_Lock
    Pair{0xFFE5, 0x3A},              // Caps_Lock
    Pair{0xFFE1, 0x2A},              // Shift_L
    Pair{0xFFE2, 0x36},              // Shift_R
    Pair{0xFFE3, 0x1D},              // Control_L
    Pair{0xFFE4, 0x1D | kExtended},  // Control_R
    Pair{0xFFE9, 0x38},              // Alt_L
    Pair{0xFFE7, 0x38},              // Meta_L
    Pair{0xFFEA, 0x38 | kExtended},  // Alt_R
    Pair{0xFFE8, 0x38 | kExtended},  // Meta_R
    Pair{0xFE03, 0x38 | kExtended},  // ISO_Level3_Shift
    Pair{0xFF7E, 0x38 | kExtended},  // Mode_switch
    Pair{0xFFEB, 0x5B | kExtended},  // Super_L
    Pair{0xFFEC, 0x5C | kExtended},  // Super_R
    Pair{0xFFAA, 0x37},              // KP_Multiply
    Pair{0xFFAB, 0x4E},              // KP_Add
    Pair{0xFFAC, 0x53},              // KP_Separator
    Pair{0xFFAD, 0x4A},              // KP_Subtract
    Pair{0xFFAE, 0x53},              // KP_Decimal
    Pair{0xFFAF, 0x35 | kExtended},  // KP_Divide
    Pair{0xFF8D, 0x1C | kExtended},  // KP_Enter
    Pair{0xFF95, 0x47},              // KP_Home
    Pair{0xFF96, 0x4B},              // KP_Left
    Pair{0xFF97, 0x48},              // KP_Up
    Pair{0xFF98, 0x4D},              // KP_Right
    Pair{0xFF99, 0x50},              // KP_Down
    Pair{0xFF9A, 0x49},              // KP_Page_Up
    Pair{0xFF9B, 0x51},              // KP_Page_Down
    Pair{0xFF9C, 0x4F},              // KP_End
    Pair{0xFF9D, 0x4C},              // KP_Begin
    Pair{0xFF9E, 0x52},              // KP_Insert
    Pair{0xFF9F, 0x53},              // KP_Delete
    Pair{0xFFBD, 0x59},              // KP_Equal
    Pair{0x1008FF11, 0xAE},          // XF86AudioLowerVolume
    Pair{0x1008FF12, 0xA0},          // XF86AudioMute
    Pair{0x1008FF13, 0xB0},          // XF86AudioRaiseVolume
};
constexpr std::array<KeyCode, 10> kPadDigits = {0x52, 0x4F, 0x50, 0x51, 0x4B,
                                                0x4C, 0x4D, 0x47, 0x48, 0x49};

}  // namespace

std::optional<SymbolKey> find_symbol(uint32_t symbol) {
  if (symbol > 0x20 && symbol < 0x7F) {
    const char c = static_cast<char>(symbol);
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    for (const auto& row : kRows)
      for (const bool shift : {false, true})
        if (const auto at = (shift ? row.shifted : row.plain).find(c); at != std::string_view::npos)
          return SymbolKey{static_cast<KeyCode>(row.first + at),
                           shift ? SymbolKey::Shift::kDown : SymbolKey::Shift::kUp, letter};
  }
  constexpr uint32_t kF1 = 0xFFBE, kPad0 = 0xFFB0;
  if (symbol >= kF1 && symbol < kF1 + 12) {
    const uint32_t n = symbol - kF1;
    return SymbolKey{static_cast<KeyCode>(n < 10 ? 0x3B + n : 0x57 + n - 10)};
  }
  if (symbol >= kPad0 && symbol < kPad0 + kPadDigits.size())
    return SymbolKey{kPadDigits.at(symbol - kPad0)};
  for (const auto& [each, code] : kOthers)
    if (each == symbol) return SymbolKey{code};
  return std::nullopt;
}

}  // namespace limen::vnc
