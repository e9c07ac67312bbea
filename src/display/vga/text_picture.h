// Draws the text modes: characters by the fonts in plane 2, attributes, the cursor.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "display/screen.h"
#include "display/vga/registers.h"

namespace limen::display::vga {

/// What the guest's text mode holds, for terminals.
[[nodiscard]] TextFrame read_text(const Registers& registers, std::span<const std::byte> memory);

/// Remembers what it drew, character by character.
class TextPicture {
 public:
  void update(const Registers& registers, bool dac_8bit, std::span<const std::byte> memory,
              Registers::Time now, Frame& frame, bool all, std::vector<Rectangle>& changed);

 private:
  static constexpr unsigned kCharacters = 256, kGlyphLines = 32;
  using Font = std::array<uint8_t, kCharacters * kGlyphLines>;
  /// What decides about all characters at once.
  struct Looks {
    unsigned columns = 0, lines = 0, cell_width = 0, cell_height = 0, first_scan = 0;
    bool doubled = false;  ///< Each dot is two pixels wide.
    uint8_t attribute_mode = 0;
    uint8_t underline = 0;
    unsigned line_compare = 0;
    std::array<uint32_t, 16> colours{};
    bool operator==(const Looks&) const = default;
  };
  struct Cell {
    TextFrame::Cell what;
    bool cursor = false;
    bool hidden = false;  ///< Blinks, and is dark at the moment.
    bool operator==(const Cell&) const = default;
  };

  static Looks looks_of(const Registers& registers, bool dac_8bit);
  bool load_fonts(const Registers& registers, std::span<const std::byte> memory);
  void paint(const Cell& cell, unsigned scan, uint32_t* to) const;

  Looks looks_;
  std::array<Font, 2> fonts_{};  ///< By bit 3 of the attribute.
  uint8_t cursor_first_ = 0, cursor_last_ = 0;
  std::vector<Cell> cells_;
};

}  // namespace limen::display::vga
