// Draws the graphics modes of a VGA: planes of 16 colours, CGA's shift modes, 256 colours.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "display/changes.h"
#include "display/linear_picture.h"
#include "display/screen.h"
#include "display/vga/registers.h"

namespace limen::display::vga {

/// What the registers say of the way from memory to the screen.
struct ScanMode {
  enum class Pixels : uint8_t { kPlanar, kInterleaved, kPacked } pixels = Pixels::kPlanar;
  unsigned width = 0, height = 0;  ///< Of the picture.
  bool doubled = false;            ///< Each pixel is two wide.
  unsigned shift = 0;              ///< Pixels of the first word that panning hides.
  uint8_t planes = 0x0F;           ///< Of kPlanar: those that count.
  std::array<uint32_t, 16> colours{};
  Palette palette{};
  bool operator==(const ScanMode&) const = default;

  // The rest decides from where a line comes, not what is made of it.
  struct Addresses {
    uint64_t start = 0, offset = 0;  ///< In words.
    uint64_t words = 0x1'0000;       ///< Where addresses wrap.
    unsigned row_scans = 1;
    unsigned first_scan = 0;
    bool double_scan = false;
    bool bank2 = false, bank4 = false;  ///< A scan's number replaces address bits, as CGA has it.
    bool word_mode = false;
    unsigned line_compare = UINT32_MAX;
    bool pan_stops = false;  ///< Below the split nothing is panned.
  };
  [[nodiscard]] unsigned pixels_of_word() const { return pixels == Pixels::kPacked ? 4 : 8; }
};

/// From the registers alone: the standard modes.
[[nodiscard]] ScanMode scan_mode(const Registers& registers, bool dac_8bit);
[[nodiscard]] ScanMode::Addresses scan_addresses(const Registers& registers);

/// Remembers what it drew, line by line.
class ScanPicture {
 public:
  void update(const ScanMode& mode, const ScanMode::Addresses& addresses,
              std::span<const std::byte> memory, Frame& frame, bool all,
              std::vector<Rectangle>& changed);

 private:
  void paint(const std::byte* from, uint32_t* to);
  const std::byte* gather(uint64_t word, std::span<const std::byte> memory, uint64_t words);

  ScanMode mode_;
  RowShadow shadow_;
  unsigned row_words_ = 0;
  std::vector<std::byte> gathered_;
  std::vector<uint32_t> line_;
};

}  // namespace limen::display::vga
