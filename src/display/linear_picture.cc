#include "display/linear_picture.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace limen::display {
namespace {

template <typename T>
T load(const std::byte* from, bool big_endian) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return big_endian ? std::byteswap(value) : value;
}

/// Widens 5 or 6 bits to 8 by repeating the uppermost.
constexpr uint32_t widen5(uint32_t value) { return value << 3 | value >> 2; }
constexpr uint32_t widen6(uint32_t value) { return value << 2 | value >> 4; }

void paint(const LinearMode& mode, const Palette& palette, const std::byte* from, unsigned left,
           unsigned right, uint32_t* to) {
  switch (mode.bits) {
    case 8:
      for (unsigned x = left; x < right; ++x) to[x] = palette[static_cast<uint8_t>(from[x])];
      break;
    case 15:
      for (unsigned x = left; x < right; ++x) {
        const uint32_t pixel = load<uint16_t>(from + 2 * x, mode.big_endian);
        to[x] = widen5(pixel >> 10 & 31) << 16 | widen5(pixel >> 5 & 31) << 8 | widen5(pixel & 31);
      }
      break;
    case 16:
      for (unsigned x = left; x < right; ++x) {
        const uint32_t pixel = load<uint16_t>(from + 2 * x, mode.big_endian);
        to[x] = widen5(pixel >> 11) << 16 | widen6(pixel >> 5 & 63) << 8 | widen5(pixel & 31);
      }
      break;
    case 24:
      for (unsigned x = left; x < right; ++x) {
        const auto at = [&](unsigned i) { return static_cast<uint32_t>(from[3 * x + i]); };
        to[x] =
            mode.big_endian ? at(0) << 16 | at(1) << 8 | at(2) : at(2) << 16 | at(1) << 8 | at(0);
      }
      break;
    default:
      for (unsigned x = left; x < right; ++x)
        to[x] = load<uint32_t>(from + 4 * x, mode.big_endian) & 0x00FF'FFFF;
      break;
  }
}

}  // namespace

bool LinearMode::fits(uint64_t memory_bytes) const {
  if (width == 0 || height == 0 || start > memory_bytes || row_bytes() > memory_bytes) return false;
  const uint64_t room = memory_bytes - start;
  if (row_bytes() > room) return false;
  return height == 1 || pitch <= (room - row_bytes()) / (height - 1);
}

void LinearPicture::update(const LinearMode& mode, std::span<const std::byte> memory,
                           const Palette& palette, Frame& frame, bool all,
                           std::vector<Rectangle>& changed) {
  if (frame.width != mode.width || frame.height != mode.height) {
    frame.resize(mode.width, mode.height);
    all = true;
  }
  // A scrolled or moved picture is compared row by row with what was at the same place of the
  // frame.
  auto looks = mode;
  looks.start = mode_.start;
  looks.pitch = mode_.pitch;
  if (looks != mode_ || (mode.bits == 8 && palette != palette_)) {
    if (mode_.height != mode.height || mode_.row_bytes() != mode.row_bytes())
      shadow_.resize(mode.height, mode.row_bytes());
    all = true;
  }
  mode_ = mode;
  palette_ = palette;
  ChangeCollector changes(changed);
  for (unsigned y = 0; y < mode.height; ++y) {
    const auto* const now = memory.data() + mode.start + y * mode.pitch;
    const auto columns = shadow_.refresh(y, now, mode.width, all);
    if (columns.left == columns.right) continue;
    // From the copy: the guest may write at the same time, and what is drawn is what is remembered.
    paint(mode, palette, shadow_.row(y), columns.left, columns.right, frame.row(y));
    changes.add(y, y + 1, columns.left, columns.right);
  }
}

}  // namespace limen::display
