// What changed of a picture since it was drawn last: found by comparing, collected into rectangles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "display/screen.h"

namespace limen::display {

/// Remembers another part that changed, which has pixels: joined with others where that makes no
/// more pixels of it, so that what is drawn again and again counts once; beyond `most` parts (not
/// 0) joined with the last in any case.
void add_part(std::vector<Rectangle>& parts, Rectangle part, size_t most);

/// Joins changed parts that lie about each other, from the top to the bottom.
class ChangeCollector {
 public:
  explicit ChangeCollector(std::vector<Rectangle>& changed) : changed_(changed) {}
  ~ChangeCollector() { flush(); }
  ChangeCollector(const ChangeCollector&) = delete;
  ChangeCollector& operator=(const ChangeCollector&) = delete;

  /// Columns [left, right) of rows [top, bottom), which do not lie above what was added before.
  void add(unsigned top, unsigned bottom, unsigned left, unsigned right);

 private:
  void flush();

  std::vector<Rectangle>& changed_;
  unsigned top_ = 0, bottom_ = 0, left_ = 0, right_ = 0;  // nothing while top_ == bottom_
};

/// A copy of the video memory behind each row of a picture, as it was drawn last.
class RowShadow {
 public:
  /// Forgets all rows.
  void resize(unsigned rows, size_t row_bytes);

  struct Columns {
    unsigned left = 0, right = 0;  ///< Pixels [left, right).
  };
  /// Takes over what `now`, of row_bytes, has in row `y`. Returns which of `width` pixels, spread
  /// evenly over the bytes, may look different; none where nothing changed. With `all`: all.
  Columns refresh(unsigned y, const std::byte* now, unsigned width, bool all);
  [[nodiscard]] const std::byte* row(unsigned y) const { return bytes_.data() + y * row_bytes_; }

 private:
  size_t row_bytes_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace limen::display
