#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "soft/interpret/native/state_area.h"

namespace limen::soft::interpret::native {
namespace {

StateLayout read_layout(const x86::CpuidTable& cpuid) {
  StateLayout layout;
  for (unsigned i = 2; i < StateLayout::kComponents; ++i) {
    if (const x86::CpuidResult* entry = cpuid.find(0xD, i))
      layout.components[i] = {
          .offset = entry->ebx, .size = entry->eax, .aligned = (entry->ecx & 2) != 0};
  }
  if (const x86::CpuidResult* entry = cpuid.find(0xD, 1)) layout.compaction = entry->eax & 2;
  return layout;
}

bool same(const StateLayout& a, const StateLayout& b) {
  return a.compaction == b.compaction &&
         std::ranges::equal(a.components, b.components, [](const auto& x, const auto& y) {
           return x.offset == y.offset && x.size == y.size && x.aligned == y.aligned;
         });
}

}  // namespace

uint64_t StateLayout::compacted_offset(uint64_t format, unsigned component) const {
  uint64_t offset = kExtendedAt;
  for (unsigned i = 2; i < kComponents; ++i) {
    if (!((format >> i) & 1)) continue;
    if (components[i].aligned) offset = (offset + 63) & ~uint64_t{63};
    if (i == component) return offset;
    offset += components[i].size;
  }
  return offset;
}

const StateLayout& state_layout(const x86::CpuidTable& cpuid) {
  static std::mutex mutex;
  static auto& known = *new std::vector<std::unique_ptr<const StateLayout>>;
  const StateLayout wanted = read_layout(cpuid);
  const std::lock_guard lock(mutex);
  for (const auto& layout : known)
    if (same(*layout, wanted)) return *layout;
  return *known.emplace_back(std::make_unique<const StateLayout>(wanted));
}

}  // namespace limen::soft::interpret::native
