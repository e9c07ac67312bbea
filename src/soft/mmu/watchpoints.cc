#include "soft/mmu/watchpoints.h"

#include <algorithm>

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
    watches[count++] = {.start = debug_registers[i] & ~(size - 1),
                        .size = size,
                        .reads = kind == 3,
                        .writes = true,
                        .number = i};
  }
  if (watches == guest_) return false;
  guest_ = watches;
  guest_count_ = count;
  gather();
  return true;
}

bool Watchpoints::set_debugger(std::span<const vcpu::Watchpoint> watchpoints) {
  const auto taken = watchpoints.first(std::min(watchpoints.size(), kMostOfDebugger));
  if (std::ranges::equal(taken, debugger_)) return false;
  debugger_.assign(taken.begin(), taken.end());
  gather();
  return true;
}

void Watchpoints::gather() {
  watches_.assign(guest_.begin(), guest_.begin() + guest_count_);
  uint8_t number = kDebuggerShift;
  for (const auto& watchpoint : debugger_)
    watches_.push_back({.start = watchpoint.address,
                        .size = std::max<uint64_t>(watchpoint.size, 1),
                        .reads = watchpoint.kind != vcpu::WatchKind::kWrite,
                        .writes = watchpoint.kind != vcpu::WatchKind::kRead,
                        .number = number++});
  first_ = watches_.data();
  count_ = static_cast<unsigned>(watches_.size());
}

bool Watchpoints::watches_page(uint64_t linear, bool write) const {
  for (const Watch& watch : watches_)
    if (watch.in_page(linear) && (write ? watch.writes : watch.reads)) return true;
  return false;
}

uint64_t Watchpoints::hits(uint64_t linear, uint64_t size, bool write) const {
  uint64_t hits = 0;
  for (const Watch& watch : watches_) {
    const bool overlap = watch.start - linear < size || linear - watch.start < watch.size;
    if (overlap && (write ? watch.writes : watch.reads)) hits |= uint64_t{1} << watch.number;
  }
  return hits;
}

}  // namespace limen::soft
