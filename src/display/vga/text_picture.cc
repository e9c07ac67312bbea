#include "display/vga/text_picture.h"

#include <algorithm>
#include <chrono>

#include "display/changes.h"

namespace limen::display::vga {
namespace {

constexpr uint64_t kWords = 0x1'0000;  // of four planes: what a VGA has
constexpr unsigned kAttributeUnderlined = 1;

// Bits of the attribute controller's mode register.
constexpr uint8_t kModeMono = 2, kModeLineGraphics = 4, kModeBlink = 8;

std::byte byte_at(std::span<const std::byte> memory, uint64_t word, unsigned plane) {
  const uint64_t at = (word % kWords) * 4 + plane;
  return at < memory.size() ? memory[at] : std::byte{};
}

TextFrame::Cell cell_at(std::span<const std::byte> memory, uint64_t word) {
  return {.character = static_cast<uint8_t>(byte_at(memory, word, 0)),
          .attribute = static_cast<uint8_t>(byte_at(memory, word, 1))};
}

struct CursorShape {
  bool on = false;
  unsigned address = 0;
  uint8_t first = 0, last = 0;
};
CursorShape cursor_of(const Registers& registers) {
  const auto& crtc = registers.crtc;
  return {.on = (crtc[0x0A] & 0x20) == 0,
          .address = static_cast<unsigned>(crtc[0x0E] << 8 | crtc[0x0F]),
          .first = static_cast<uint8_t>(crtc[0x0A] & 0x1F),
          .last = static_cast<uint8_t>(crtc[0x0B] & 0x1F)};
}

/// Where a blinking thing is in its period, counted in frames of 70 Hz.
bool phase(Registers::Time now, int frames) {
  const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
  return passed.count() * 70 / 1000 / frames % 2 == 0;
}

}  // namespace

TextFrame read_text(const Registers& registers, std::span<const std::byte> memory) {
  TextFrame text;
  text.columns = registers.visible_characters();
  text.rows = registers.visible_lines() / registers.row_scans();
  text.cells.reserve(size_t{text.columns} * text.rows);
  const auto cursor = cursor_of(registers);
  for (unsigned row = 0; row < text.rows; ++row)
    for (unsigned column = 0; column < text.columns; ++column) {
      const uint64_t word = registers.start_address() + row * registers.line_offset() + column;
      text.cells.push_back(cell_at(memory, word));
      if (cursor.on && cursor.first <= cursor.last && cursor.address == word % kWords)
        text.cursor = {column, row};
    }
  return text;
}

TextPicture::Looks TextPicture::looks_of(const Registers& registers, bool dac_8bit) {
  Looks looks;
  looks.columns = registers.visible_characters();
  looks.lines = registers.visible_lines();
  looks.cell_width = (registers.sequencer[1] & 1) != 0 ? 8 : 9;
  looks.doubled = (registers.sequencer[1] & 8) != 0;
  looks.cell_height = registers.row_scans() * (registers.double_scan() ? 2 : 1);
  looks.first_scan = registers.crtc[8] & 0x1F;
  looks.attribute_mode = registers.attribute[0x10];
  looks.underline = registers.crtc[0x14] & 0x1F;
  looks.line_compare = registers.line_compare();
  looks.colours = registers.colours16(dac_8bit);
  return looks;
}

/// Each font is 256 times 32 bytes of plane 2; sequencer register 3 says which two. True: changed.
bool TextPicture::load_fonts(const Registers& registers, std::span<const std::byte> memory) {
  const unsigned map = registers.sequencer[3];
  // Three bits each, the uppermost of which chooses between even and odd blocks of 8 KiB.
  const std::array<unsigned, 2> blocks = {(map & 3) << 1 | (map >> 4 & 1),
                                          (map >> 1 & 6) | (map >> 5 & 1)};
  bool changed = false;
  for (unsigned i = 0; i < fonts_.size(); ++i) {
    Font font;
    const uint64_t first = uint64_t{blocks[i]} * 8192;
    for (unsigned byte = 0; byte < font.size(); ++byte)
      font[byte] = static_cast<uint8_t>(byte_at(memory, first + byte, 2));
    if (font == fonts_[i]) continue;
    fonts_[i] = font;
    changed = true;
  }
  return changed;
}

/// One scan line of a character.
void TextPicture::paint(const Cell& cell, unsigned scan, uint32_t* to) const {
  const uint8_t attribute = cell.what.attribute;
  const bool blinks = (looks_.attribute_mode & kModeBlink) != 0;
  const uint32_t foreground = looks_.colours[attribute & 15];
  const uint32_t background = looks_.colours[attribute >> 4 & (blinks ? 7 : 15)];
  const unsigned line = looks_.cell_height > kGlyphLines ? scan / 2 : scan;
  const uint8_t character = cell.what.character;
  unsigned dots = fonts_[attribute >> 3 & 1][character * kGlyphLines + line % kGlyphLines] << 1;
  // The ninth column repeats the eighth for the characters that lines are drawn with.
  if ((looks_.attribute_mode & kModeLineGraphics) != 0 && character >= 0xC0 && character <= 0xDF)
    dots |= dots >> 1 & 1;
  if ((looks_.attribute_mode & kModeMono) != 0 && (attribute & 7) == kAttributeUnderlined &&
      line == looks_.underline)
    dots = 0x1FF;
  if (cell.hidden) dots = 0;
  if (cell.cursor && line >= cursor_first_ && line <= cursor_last_) dots = 0x1FF;
  for (unsigned x = 0; x < looks_.cell_width; ++x) {
    const uint32_t pixel = (dots >> (8 - x) & 1) != 0 ? foreground : background;
    *to++ = pixel;
    if (looks_.doubled) *to++ = pixel;
  }
}

void TextPicture::update(const Registers& registers, bool dac_8bit,
                         std::span<const std::byte> memory, Registers::Time now, Frame& frame,
                         bool all, std::vector<Rectangle>& changed) {
  const auto looks = looks_of(registers, dac_8bit);
  const auto cursor = cursor_of(registers);
  const unsigned cell_width = looks.cell_width * (looks.doubled ? 2 : 1);
  const unsigned width = looks.columns * cell_width;
  if (frame.width != width || frame.height != looks.lines) {
    frame.resize(width, looks.lines);
    all = true;
  }
  if (load_fonts(registers, memory)) all = true;
  if (looks != looks_ || cursor.first != cursor_first_ || cursor.last != cursor_last_) all = true;
  looks_ = looks;
  cursor_first_ = cursor.first;
  cursor_last_ = cursor.last;

  const bool cursor_lit = cursor.on && cursor.first <= cursor.last && phase(now, 16);
  const bool blink_dark = (looks.attribute_mode & kModeBlink) != 0 && !phase(now, 32);
  ChangeCollector changes(changed);
  size_t index = 0;
  uint64_t word = registers.start_address();
  unsigned first_scan = looks.first_scan % looks.cell_height;
  for (unsigned y = 0; y < looks.lines;) {
    // A row of characters: whole, or cut by the split of the screen or its end.
    unsigned scans = std::min(looks.cell_height - first_scan, looks.lines - y);
    const bool split = looks.line_compare >= y && looks.line_compare < y + scans;
    if (split) scans = looks.line_compare - y + 1;
    unsigned left = looks.columns, right = 0;
    if (cells_.size() < index + looks.columns) cells_.resize(index + looks.columns);
    for (unsigned column = 0; column < looks.columns; ++column, ++index) {
      Cell cell{.what = cell_at(memory, word + column)};
      cell.cursor = cursor_lit && cursor.address == (word + column) % kWords;
      cell.hidden = blink_dark && (cell.what.attribute & 0x80) != 0;
      if (!all && cell == cells_[index]) continue;
      cells_[index] = cell;
      left = std::min(left, column);
      right = column + 1;
      for (unsigned scan = 0; scan < scans; ++scan)
        paint(cell, first_scan + scan, frame.row(y + scan) + size_t{column} * cell_width);
    }
    if (left < right) changes.add(y, y + scans, left * cell_width, right * cell_width);
    y += scans;
    first_scan = 0;
    word = split ? 0 : word + registers.line_offset();
  }
}

}  // namespace limen::display::vga
