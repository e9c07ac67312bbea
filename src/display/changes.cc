#include "display/changes.h"

#include <algorithm>
#include <cstring>

namespace limen::display {
namespace {

/// Rows that did not change, fewer than which do not keep two rectangles apart.
constexpr unsigned kGap = 8;
/// Bytes that are compared at once to find where a row changed.
constexpr size_t kStep = 64;

}  // namespace

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
