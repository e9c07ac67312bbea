#include "display/edid.h"

#include <algorithm>
#include <string_view>

namespace limen::display {
namespace {

constexpr unsigned kMostPixels = 4095;   // 12 bits
constexpr unsigned kMostClock = 0xFFFF;  // of 10 kHz
constexpr unsigned kDotsPerInch = 100;

struct Timing {
  unsigned active, blank, front, sync;
};

/// Blanking as CVT's reduced one has about it; any would do, as no beam follows.
Timing horizontal(unsigned width) { return {width, 160, 48, 32}; }
Timing vertical(unsigned height) { return {height, std::max(height / 28, 23u), 3, 6}; }

unsigned millimetres(unsigned pixels) { return pixels * 254 / (kDotsPerInch * 10); }

/// 18 bytes (§3.10.2).
void put_detailed_timing(uint8_t* to, unsigned width, unsigned height) {
  const auto h = horizontal(width), v = vertical(height);
  const uint64_t dots = uint64_t{h.active + h.blank} * (v.active + v.blank);
  uint64_t clock = 0;
  for (const unsigned hertz : {75u, 60u, 50u, 30u, 24u}) {
    clock = dots * hertz / 10'000;
    if (clock <= kMostClock) break;
  }
  clock = std::min<uint64_t>(clock, kMostClock);
  const auto low = [](uint64_t value) { return static_cast<uint8_t>(value); };
  to[0] = low(clock);
  to[1] = low(clock >> 8);
  to[2] = low(h.active);
  to[3] = low(h.blank);
  to[4] = low((h.active >> 8) << 4 | h.blank >> 8);
  to[5] = low(v.active);
  to[6] = low(v.blank);
  to[7] = low((v.active >> 8) << 4 | v.blank >> 8);
  to[8] = low(h.front);
  to[9] = low(h.sync);
  to[10] = low((v.front & 15) << 4 | (v.sync & 15));
  const unsigned wide = millimetres(width), high = millimetres(height);
  to[12] = low(wide);
  to[13] = low(high);
  to[14] = low((wide >> 8) << 4 | high >> 8);
  to[17] = 0x18;  // digital, separate syncs
}

/// A descriptor that is not a timing (§3.10.3).
void put_text(uint8_t* to, uint8_t tag, std::string_view text) {
  to[3] = tag;
  std::fill_n(to + 5, 13, uint8_t{' '});
  std::copy(text.begin(), text.end(), to + 5);
  to[5 + text.size()] = '\n';
}

}  // namespace

std::array<uint8_t, kEdidBytes> make_edid(const EdidProperties& properties) {
  std::array<uint8_t, kEdidBytes> block{};
  const unsigned width = std::clamp(properties.width, 1u, kMostPixels);
  const unsigned height = std::clamp(properties.height, 1u, kMostPixels);
  std::fill_n(block.begin() + 1, 6, uint8_t{0xFF});  // the header
  // Manufacturer "LMN": five bits a letter, from 1 on.
  constexpr unsigned kVendor = ('L' - '@') << 10 | ('M' - '@') << 5 | ('N' - '@');
  block[8] = kVendor >> 8;
  block[9] = kVendor & 0xFF;
  block[10] = 1;            // product
  block[16] = 1;            // week
  block[17] = 2026 - 1990;  // year
  block[18] = 1;
  block[19] = 4;
  block[20] = 0xA5;  // digital, 8 bits a colour, DisplayPort
  block[21] = static_cast<uint8_t>(std::min(millimetres(width) / 10, 255u));
  block[22] = static_cast<uint8_t>(std::min(millimetres(height) / 10, 255u));
  block[23] = 120;   // gamma 2.2
  block[24] = 0x06;  // sRGB, and the first timing is the native one
  // The colours of sRGB (§3.7).
  constexpr std::array<uint8_t, 10> kChromaticity = {0xEE, 0x91, 0xA3, 0x54, 0x4C,
                                                     0x99, 0x26, 0x0F, 0x50, 0x54};
  std::ranges::copy(kChromaticity, block.begin() + 25);
  block[35] = 0x21;  // 640x480 and 800x600 at 60 Hz
  block[36] = 0x08;  // 1024x768 at 60 Hz
  // Standard timings at 60 Hz: columns / 8 - 31, then the ratio of the sides (§3.9).
  struct Standard {
    unsigned columns;
    uint8_t ratio;
  };
  constexpr std::array kStandard = {Standard{1280, 2}, Standard{1280, 0}, Standard{1440, 0},
                                    Standard{1680, 0}, Standard{1920, 3}, Standard{1920, 0},
                                    Standard{1600, 1}, Standard{2048, 1}};
  for (unsigned i = 0; i < kStandard.size(); ++i) {
    block[38 + 2 * i] = static_cast<uint8_t>(kStandard[i].columns / 8 - 31);
    block[39 + 2 * i] = static_cast<uint8_t>(kStandard[i].ratio << 6);
  }
  put_detailed_timing(&block[54], width, height);
  // Range limits (§3.10.3.3.1): 50 to 125 Hz, 30 to 160 kHz, at most 1200 MHz, bare.
  constexpr std::array<uint8_t, 7> kLimits = {50, 125, 30, 160, 120, 1, '\n'};
  block[72 + 3] = 0xFD;
  std::ranges::copy(kLimits, block.begin() + 72 + 5);
  std::fill_n(block.begin() + 72 + 12, 6, uint8_t{' '});
  put_text(&block[90], 0xFC, "Limen");
  block[108 + 3] = 0x10;  // unused
  unsigned sum = 0;
  for (const uint8_t byte : block) sum += byte;
  block[127] = static_cast<uint8_t>(-sum);
  return block;
}

}  // namespace limen::display
