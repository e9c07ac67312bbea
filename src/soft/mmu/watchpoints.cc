#include "soft/mmu/watchpoints.h"

namespace limen::soft {

bool Watchpoints::set(const std::array<uint64_t, 8>& debug_registers) {
  const uint64_t control = debug_registers[7];
  std::array<Watch, 4> watches{};
  unsigned count = 0;
  for (uint8_t i = 0; i < 4; ++i) {
    const bool enabled = (control >> (2 * i) & 3) != 0;  // L or G
    const unsigned kind = control >> (16 + 4 * i) & 3;   // 1: writes, 3: reads and writes
    if (!enabled || (kind & 1) == 0) continue;
    constexpr std::array<uint64_t, 4> kSizes = {1, 2, 8, 4};
    const uint64_t size = kSizes[control >> (18 + 4 * i) & 3];
    // The processor ignores the low address bits that the size does not allow.
    watches[count++] = {debug_registers[i] & ~(size - 1), size, kind == 3, i};
  }
  if (watches == watches_) return false;
  watches_ = watches;
  count_ = count;
  return true;
}

bool Watchpoints::watches_page(uint64_t linear, bool write) const {
  for (unsigned i = 0; i < count_; ++i)
    if (watches_[i].start >> 12 == linear >> 12 && (write || watches_[i].reads)) return true;
  return false;
}

uint64_t Watchpoints::hits(uint64_t linear, uint64_t size, bool write) const {
  uint64_t status = 0;
  for (unsigned i = 0; i < count_; ++i) {
    const Watch& watch = watches_[i];
    const bool overlap = watch.start - linear < size || linear - watch.start < watch.size;
    if (overlap && (write || watch.reads)) status |= uint64_t{1} << watch.number;
  }
  return status;
}

}  // namespace limen::soft
