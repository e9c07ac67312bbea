#include "boot/placement.h"

#include <algorithm>

namespace limen::boot {

Placement::Placement(const memory::GuestMemory& memory, std::span<const E820Entry> map) {
  for (const auto& entry : map) {
    if (entry.type != E820Type::kRam || entry.start.value >= kHighRamStart || entry.size == 0)
      continue;
    if (memory.span(entry.start, entry.size).empty()) continue;
    const uint64_t start = std::max(entry.start.value, memory::kPageSize);
    const uint64_t end = std::min(entry.start.value + entry.size, kHighRamStart);
    if (start < end) free_.push_back({start, end});
  }
  std::ranges::sort(free_, {}, &Range::start);
}

bool Placement::take(uint64_t start, uint64_t size) {
  const uint64_t end = start + size;
  if (end < start) return false;
  for (const auto& range : free_)
    if (start >= range.start && end <= range.end) {
      remove(start, end);
      return true;
    }
  return false;
}

std::optional<uint64_t> Placement::take_lowest(uint64_t size, uint64_t alignment, uint64_t from,
                                               uint64_t to) {
  for (const auto& range : free_) {
    const uint64_t start = (std::max(range.start, from) + alignment - 1) & ~(alignment - 1);
    const uint64_t end = std::min(range.end, to);
    if (start > end || size > end - start) continue;
    remove(start, start + size);
    return start;
  }
  return std::nullopt;
}

std::optional<uint64_t> Placement::take_highest(uint64_t size, uint64_t alignment, uint64_t from,
                                                uint64_t to) {
  for (auto range = free_.rbegin(); range != free_.rend(); ++range) {
    const uint64_t first = std::max(range->start, from);
    const uint64_t end = std::min(range->end, to);
    if (first > end || size > end - first) continue;
    const uint64_t start = (end - size) & ~(alignment - 1);
    if (start < first) continue;
    remove(start, start + size);
    return start;
  }
  return std::nullopt;
}

uint64_t Placement::largest(uint64_t from, uint64_t to) const {
  uint64_t best = 0;
  for (const auto& range : free_) {
    const uint64_t start = std::max(range.start, from);
    const uint64_t end = std::min(range.end, to);
    if (start < end) best = std::max(best, end - start);
  }
  return best;
}

void Placement::remove(uint64_t start, uint64_t end) {
  std::vector<Range> left;
  for (const auto& range : free_) {
    if (end <= range.start || start >= range.end) {
      left.push_back(range);
      continue;
    }
    if (range.start < start) left.push_back({range.start, start});
    if (end < range.end) left.push_back({end, range.end});
  }
  free_ = std::move(left);
}

}  // namespace limen::boot
