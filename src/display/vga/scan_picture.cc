#include "display/vga/scan_picture.h"

#include <algorithm>
#include <cstring>

namespace limen::display::vga {
namespace {

/// The bits of a byte, the uppermost first, as eight bytes of 0 or 1.
constexpr std::array<uint64_t, 256> kSpread = [] {
  std::array<uint64_t, 256> table{};
  for (unsigned byte = 0; byte < table.size(); ++byte)
    for (unsigned bit = 0; bit < 8; ++bit)
      table[byte] |= uint64_t{byte >> (7 - bit) & 1} << 8 * bit;
  return table;
}();

}  // namespace

ScanMode scan_mode(const Registers& registers, bool dac_8bit) {
  ScanMode mode;
  const unsigned shift = registers.graphics[5] >> 5 & 3;
  mode.pixels = shift >= 2   ? ScanMode::Pixels::kPacked
                : shift == 1 ? ScanMode::Pixels::kInterleaved
                             : ScanMode::Pixels::kPlanar;
  const bool packed = mode.pixels == ScanMode::Pixels::kPacked;
  mode.doubled = packed || (registers.sequencer[1] & 8) != 0;
  mode.width = registers.visible_characters() * (mode.doubled && !packed ? 16 : 8);
  mode.height = registers.visible_lines();
  mode.planes = registers.attribute[0x12] & 15;
  // 256 colours pan by half pixels, of which the even ones are whole.
  const unsigned pan = registers.attribute[0x13] & 15;
  mode.shift = packed ? pan >> 1 & 3 : pan & 7;
  if (packed)
    mode.palette = registers.colours(dac_8bit);
  else
    mode.colours = registers.colours16(dac_8bit);
  return mode;
}

ScanMode::Addresses scan_addresses(const Registers& registers) {
  const uint8_t mode = registers.crtc[0x17];
  return {.start = registers.start_address() + (registers.crtc[8] >> 5 & 3u),
          .offset = registers.line_offset(),
          .words = 0x1'0000,
          .row_scans = registers.row_scans(),
          .first_scan = registers.crtc[8] & 0x1Fu,
          .double_scan = registers.double_scan(),
          .bank2 = (mode & 1) == 0,
          .bank4 = (mode & 2) == 0,
          .word_mode = (mode & 0x40) == 0,
          .line_compare = registers.line_compare(),
          .pan_stops = (registers.attribute[0x10] & 0x20) != 0};
}

/// The row's bytes from `word` on, in one piece.
const std::byte* ScanPicture::gather(uint64_t word, std::span<const std::byte> memory,
                                     uint64_t words) {
  word %= words;
  if (word + row_words_ <= words) return memory.data() + word * 4;
  const uint64_t first = std::min<uint64_t>(words - word, row_words_);
  std::memcpy(gathered_.data(), memory.data() + word * 4, first * 4);
  for (uint64_t done = first; done < row_words_; ++done)
    std::memcpy(gathered_.data() + done * 4, memory.data() + (word + done) % words * 4, 4);
  return gathered_.data();
}

/// All words of a row.
void ScanPicture::paint(const std::byte* from, uint32_t* to) {
  const auto& colours = mode_.colours;
  for (unsigned word = 0; word < row_words_; ++word, from += 4) {
    const auto plane = [from](unsigned i) { return static_cast<uint8_t>(from[i]); };
    switch (mode_.pixels) {
      case ScanMode::Pixels::kPacked:
        for (unsigned i = 0; i < 4; ++i) *to++ = mode_.palette[plane(i)];
        break;
      case ScanMode::Pixels::kPlanar: {
        const uint64_t eight = kSpread[plane(0)] | kSpread[plane(1)] << 1 | kSpread[plane(2)] << 2 |
                               kSpread[plane(3)] << 3;
        for (unsigned i = 0; i < 8; ++i) *to++ = colours[(eight >> 8 * i & 15) & mode_.planes];
        break;
      }
      case ScanMode::Pixels::kInterleaved:
        // Two bits of planes 0 and 2 make a pixel, four times, then the same of planes 1 and 3.
        for (unsigned half = 0; half < 2; ++half)
          for (unsigned bit = 6; bit < 8; bit -= 2) {
            const unsigned low = plane(half) >> bit & 3, high = plane(half + 2) >> bit & 3;
            *to++ = colours[(high << 2 | low) & mode_.planes];
          }
        break;
    }
  }
}

void ScanPicture::update(const ScanMode& mode, const ScanMode::Addresses& addresses,
                         std::span<const std::byte> memory, Frame& frame, bool all,
                         std::vector<Rectangle>& changed) {
  if (frame.width != mode.width || frame.height != mode.height) {
    frame.resize(mode.width, mode.height);
    all = true;
  }
  if (all || mode != mode_) {
    all = true;
    mode_ = mode;
    const unsigned pixels = mode.width / (mode.doubled ? 2 : 1);
    // Panning brings in a word more at the right.
    row_words_ = pixels / mode.pixels_of_word() + (mode.shift != 0 ? 1 : 0);
    shadow_.resize(mode.height, size_t{row_words_} * 4);
    gathered_.assign(size_t{row_words_} * 4, {});
    line_.resize(size_t{row_words_} * mode.pixels_of_word());
  }
  const uint64_t words = std::min<uint64_t>(addresses.words, memory.size() / 4);
  if (words == 0) return;

  ChangeCollector changes(changed);
  uint64_t row_start = addresses.start;
  unsigned scan = addresses.first_scan % addresses.row_scans;
  bool repeat = false, below_split = false;
  for (unsigned y = 0; y < mode.height; ++y) {
    // Number a scan has within its row takes the place of address bits 13 and 14 of the plane; the
    // words of odd and even memory lie at half of that (see planes.h).
    uint64_t word = row_start;
    const unsigned bit = addresses.word_mode ? 12 : 13;
    if (addresses.bank2) word = (word & ~(1ull << bit)) | uint64_t{scan & 1} << bit;
    if (addresses.bank4) word = (word & ~(2ull << bit)) | uint64_t{scan >> 1 & 1} << (bit + 1);
    const auto* const now = gather(word, memory, words);
    const auto columns = shadow_.refresh(y, now, mode.width, all);
    if (columns.left != columns.right) {
      paint(shadow_.row(y), line_.data());
      const unsigned pan = below_split && addresses.pan_stops ? 0 : mode.shift;
      const uint32_t* from = line_.data() + pan;
      uint32_t* to = frame.row(y);
      if (mode.doubled)
        for (unsigned x = 0; x < mode.width; ++x) to[x] = from[x / 2];
      else
        std::copy_n(from, mode.width, to);
      changes.add(y, y + 1, 0, mode.width);
    }
    if (y == addresses.line_compare) {
      row_start = 0;
      scan = 0;
      repeat = false;
      below_split = true;
      continue;
    }
    if (addresses.double_scan && !repeat) {
      repeat = true;
      continue;
    }
    repeat = false;
    if (++scan == addresses.row_scans) {
      scan = 0;
      row_start += addresses.offset;
    }
  }
}

}  // namespace limen::display::vga
