// Draws a linear frame buffer: rows of packed pixels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "display/changes.h"
#include "display/screen.h"

namespace limen::display {

struct LinearMode {
  unsigned width = 0, height = 0;
  unsigned bits = 32;  ///< Of a pixel: 8 (by palette), 15, 16, 24, 32.
  uint64_t start = 0;  ///< Of the first row, in bytes.
  uint64_t pitch = 0;  ///< From a row to the next.
  bool big_endian = false;
  bool operator==(const LinearMode&) const = default;

  [[nodiscard]] uint64_t row_bytes() const { return uint64_t{width} * ((bits + 7) / 8); }
  [[nodiscard]] bool fits(uint64_t memory_bytes) const;
};

using Palette = std::array<uint32_t, 256>;

/// Remembers what it drew. What a guest writes meanwhile is seen at the next update at the latest.
class LinearPicture {
 public:
  /// `mode` fits into `memory`; `palette` is for 8 bits. Appends to `changed`.
  void update(const LinearMode& mode, std::span<const std::byte> memory, const Palette& palette,
              Frame& frame, bool all, std::vector<Rectangle>& changed);

 private:
  LinearMode mode_;
  Palette palette_{};
  RowShadow shadow_;
};

}  // namespace limen::display
