#include "display/changes.h"

#include <algorithm>
#include <cstring>

namespace limen::display {
namespace {

/// Rows that did not change, fewer than which do not keep two rectangles apart.
constexpr unsigned kGap = 8;
/// Bytes that are compared at once to find where a row changed.
constexpr size_t kStep = 64;

Rectangle join(const Rectangle& a, const Rectangle& b) {
  const unsigned left = std::min(a.x, b.x), top = std::min(a.y, b.y);
  return {left, top, std::max(a.x + a.width, b.x + b.width) - left,
          std::max(a.y + a.height, b.y + b.height) - top};
}

uint64_t pixels(const Rectangle& part) { return uint64_t{part.width} * part.height; }

}  // namespace

void add_part(std::vector<Rectangle>& parts, Rectangle part, size_t most) {
  // A part that has grown may swallow others that were looked at before.
  for (size_t i = 0; i < parts.size();) {
    const Rectangle joined = join(parts[i], part);
    if (pixels(joined) > pixels(parts[i]) + pixels(part)) {
      ++i;
      continue;
    }
    part = joined;
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(i));
    i = 0;
  }
  if (parts.size() < most)
    parts.push_back(part);
  else
    parts.back() = join(parts.back(), part);
}

void ChangeCollector::add(unsigned top, unsigned bottom, unsigned left, unsigned right) {
  if (top_ != bottom_ && top <= bottom_ + kGap) {
    bottom_ = std::max(bottom_, bottom);
    left_ = std::min(left_, left);
    right_ = std::max(right_, right);
    return;
  }
  flush();
  top_ = top;
  bottom_ = bottom;
  left_ = left;
  right_ = right;
}

void ChangeCollector::flush() {
  if (top_ != bottom_) changed_.push_back({left_, top_, right_ - left_, bottom_ - top_});
  top_ = bottom_ = 0;
}

void RowShadow::resize(unsigned rows, size_t row_bytes) {
  row_bytes_ = row_bytes;
  bytes_.assign(rows * row_bytes, std::byte{});
}

RowShadow::Columns RowShadow::refresh(unsigned y, const std::byte* now, unsigned width, bool all) {
  std::byte* const before = bytes_.data() + y * row_bytes_;
  if (all) {
    std::memcpy(before, now, row_bytes_);
    return {0, width};
  }
  if (std::memcmp(before, now, row_bytes_) == 0) return {};
  size_t first = 0, last = row_bytes_;
  while (first + kStep < last && std::memcmp(before + first, now + first, kStep) == 0)
    first += kStep;
  while (last > first + kStep && std::memcmp(before + last - kStep, now + last - kStep, kStep) == 0)
    last -= kStep;
  std::memcpy(before, now, row_bytes_);
  return {static_cast<unsigned>(first * width / row_bytes_),
          static_cast<unsigned>((last * width + row_bytes_ - 1) / row_bytes_)};
}

}  // namespace limen::display
