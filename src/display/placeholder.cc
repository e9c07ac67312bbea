#include "display/placeholder.h"

#include <array>
#include <string_view>

namespace limen::display {
namespace {

constexpr unsigned kWidth = 640, kHeight = 480;
constexpr unsigned kGlyphRows = 9, kGlyphColumns = 5;
/// A glyph's dots are two pixels high, so that a character is 8 by 18.
constexpr unsigned kAdvance = 8, kDotHeight = 2;
constexpr uint32_t kGrey = 0x00AA'AAAA;
constexpr std::string_view kText = "This guest has not initialized the display (yet).";

/// Rows of five dots, the leftmost in bit 4; the last two lie below the base line.
struct Glyph {
  char character;
  std::array<uint8_t, kGlyphRows> rows;
};
constexpr std::array kGlyphs = {
    Glyph{'T', {0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0, 0}},
    Glyph{'a', {0, 0, 0b01110, 0b00001, 0b01111, 0b10001, 0b01111, 0, 0}},
    Glyph{'d', {0b00001, 0b00001, 0b01101, 0b10011, 0b10001, 0b10001, 0b01111, 0, 0}},
    Glyph{'e', {0, 0, 0b01110, 0b10001, 0b11111, 0b10000, 0b01110, 0, 0}},
    Glyph{'g', {0, 0, 0b01111, 0b10001, 0b10001, 0b10001, 0b01111, 0b00001, 0b01110}},
    Glyph{'h', {0b10000, 0b10000, 0b10110, 0b11001, 0b10001, 0b10001, 0b10001, 0, 0}},
    Glyph{'i', {0b00100, 0, 0b01100, 0b00100, 0b00100, 0b00100, 0b01110, 0, 0}},
    Glyph{'l', {0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110, 0, 0}},
    Glyph{'n', {0, 0, 0b10110, 0b11001, 0b10001, 0b10001, 0b10001, 0, 0}},
    Glyph{'o', {0, 0, 0b01110, 0b10001, 0b10001, 0b10001, 0b01110, 0, 0}},
    Glyph{'p', {0, 0, 0b11110, 0b10001, 0b10001, 0b10001, 0b11110, 0b10000, 0b10000}},
    Glyph{'s', {0, 0, 0b01111, 0b10000, 0b01110, 0b00001, 0b11110, 0, 0}},
    Glyph{'t', {0b01000, 0b01000, 0b11100, 0b01000, 0b01000, 0b01001, 0b00110, 0, 0}},
    Glyph{'u', {0, 0, 0b10001, 0b10001, 0b10001, 0b10011, 0b01101, 0, 0}},
    Glyph{'y', {0, 0, 0b10001, 0b10001, 0b10001, 0b10001, 0b01111, 0b00001, 0b01110}},
    Glyph{'z', {0, 0, 0b11111, 0b00010, 0b00100, 0b01000, 0b11111, 0, 0}},
    Glyph{'(', {0b00010, 0b00100, 0b01000, 0b01000, 0b01000, 0b00100, 0b00010, 0, 0}},
    Glyph{')', {0b01000, 0b00100, 0b00010, 0b00010, 0b00010, 0b00100, 0b01000, 0, 0}},
    Glyph{'.', {0, 0, 0, 0, 0, 0b01100, 0b01100, 0, 0}},
    Glyph{' ', {}},
};

constexpr const Glyph& glyph_of(char character) {
  for (const auto& glyph : kGlyphs)
    if (glyph.character == character) return glyph;
  return kGlyphs.back();
}

}  // namespace

Frame placeholder_frame() {
  Frame frame;
  frame.resize(kWidth, kHeight);
  unsigned left = (kWidth - static_cast<unsigned>(kText.size()) * kAdvance) / 2;
  const unsigned top = (kHeight - kGlyphRows * kDotHeight) / 2;
  for (const char character : kText) {
    const auto& glyph = glyph_of(character);
    for (unsigned y = 0; y < kGlyphRows * kDotHeight; ++y)
      for (unsigned x = 0; x < kGlyphColumns; ++x)
        if ((glyph.rows[y / kDotHeight] >> (kGlyphColumns - 1 - x) & 1) != 0)
          frame.row(top + y)[left + x] = kGrey;
    left += kAdvance;
  }
  return frame;
}

}  // namespace limen::display
