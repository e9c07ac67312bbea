#include "boot/memory_map.h"

#include <algorithm>

namespace limen::boot {

Result<std::vector<memory::GuestMemory::Layout>> ram_layout(uint64_t memory_bytes,
                                                            uint64_t low_limit, bool firmware) {
  if (memory_bytes < kMinimumMemory)
    return fail("memory of {} bytes is too little: at least {} bytes are needed", memory_bytes,
                kMinimumMemory);
  if (memory_bytes % memory::kPageSize != 0)
    return fail("memory of {} bytes is not a multiple of {}: nearest below is {}", memory_bytes,
                memory::kPageSize, memory_bytes - memory_bytes % memory::kPageSize);
  if (memory_bytes > UINT64_MAX - kHighRamStart)
    return fail("memory of {} bytes is beyond the physical address space", memory_bytes);
  std::vector<memory::GuestMemory::Layout> layout;
  const uint64_t low = std::min(memory_bytes, low_limit);
  if (firmware) {
    layout.push_back({{0}, kVideoMemoryStart});
    layout.push_back({{kBiosAreaEnd}, low - kBiosAreaEnd, kBiosAreaEnd - kVideoMemoryStart});
  } else {
    layout.push_back({{0}, low});
  }
  if (memory_bytes > low) layout.push_back({{kHighRamStart}, memory_bytes - low});
  return layout;
}

GuestPhysicalAddress acpi_region(const memory::GuestMemory& memory) {
  const auto& low = memory.regions().front();
  return {low.start.value + low.size - kAcpiRegionSize};
}

std::vector<E820Entry> e820_map(const memory::GuestMemory& memory) {
  const uint64_t acpi = acpi_region(memory).value;
  std::vector<E820Entry> map = {
      {{0}, kConventionalEnd, E820Type::kRam},
      {{kConventionalEnd}, kBiosAreaEnd - kConventionalEnd, E820Type::kReserved},
      {{kBiosAreaEnd}, acpi - kBiosAreaEnd, E820Type::kRam},
      // The first page holds the FACS, which the kernel may not reclaim (ACPI 6.5 5.2.10).
      {{acpi}, memory::kPageSize, E820Type::kAcpiNvs},
      {{acpi + memory::kPageSize}, kAcpiRegionSize - memory::kPageSize, E820Type::kAcpiReclaimable},
      {{kEcamBase}, kEcamSize, E820Type::kReserved},
  };
  for (const auto& region : memory.regions())
    if (region.start.value >= kHighRamStart)
      map.push_back({region.start, region.size, E820Type::kRam});
  return map;
}

}  // namespace limen::boot
