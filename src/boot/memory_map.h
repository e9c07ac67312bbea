// Where things stand in the guest-physical address space of the q35 board, and the map of it that
// is handed to the kernel (ACPI 6.5 chapter 15, "System Address Map Interfaces").
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "x86/address.h"

namespace limen::boot {

/// RAM below 4 GiB ends here at the latest; the rest of it begins at kHighRamStart.
inline constexpr uint64_t kLowRamLimit = 0x8000'0000;
inline constexpr uint64_t kPcLowRamLimit = 0xC000'0000;  ///< Of board pc, which has no ECAM.
inline constexpr uint64_t kHighRamStart = 0x1'0000'0000;
/// Conventional memory ends here; above it lie the EBDA, video memory and the BIOS ROM area.
inline constexpr uint64_t kConventionalEnd = 0x9'FC00;
inline constexpr uint64_t kVideoMemoryStart = 0xA'0000;
inline constexpr uint64_t kBiosAreaEnd = 0x10'0000;
/// PCI Express configuration space, buses 0 to 255 (PCI Firmware Specification 3.3, 4.1.2).
inline constexpr uint64_t kEcamBase = 0xB000'0000;
inline constexpr uint64_t kEcamSize = uint64_t{256} << 20;
/// The window from which the BARs of PCI functions are placed below 4 GiB.
inline constexpr uint64_t kPciWindowStart = 0xC000'0000;
inline constexpr uint64_t kPciWindowEnd = 0xFEC0'0000;
inline constexpr uint64_t kIoApicBase = 0xFEC0'0000;
inline constexpr uint64_t kHpetBase = 0xFED0'0000;
inline constexpr uint64_t kLocalApicBase = 0xFEE0'0000;
/// The top of low RAM, where the ACPI tables lie.
inline constexpr uint64_t kAcpiRegionSize = 128 * 1024;
/// Below this, no machine can be booted: tables, kernel and initrd have no place.
inline constexpr uint64_t kMinimumMemory = uint64_t{2} << 20;

/// How `memory_bytes` of RAM are spread: low RAM up to `low_limit`, the rest from kHighRamStart.
/// With `firmware`, video memory and the BIOS area lie over the RAM below 1 MiB.
/// Fails when it is below kMinimumMemory or not a multiple of the page size.
Result<std::vector<memory::GuestMemory::Layout>> ram_layout(uint64_t memory_bytes,
                                                            uint64_t low_limit = kLowRamLimit,
                                                            bool firmware = false);

/// Types of address range (ACPI 6.5 table 15.2).
enum class E820Type : uint32_t { kRam = 1, kReserved = 2, kAcpiReclaimable = 3, kAcpiNvs = 4 };

struct E820Entry {
  GuestPhysicalAddress start;
  uint64_t size = 0;
  E820Type type = E820Type::kReserved;
};

/// The map for RAM laid out by ram_layout(): sorted, without overlaps.
std::vector<E820Entry> e820_map(const memory::GuestMemory& memory);

/// Where the ACPI tables lie: kAcpiRegionSize bytes from here, the top of low RAM.
GuestPhysicalAddress acpi_region(const memory::GuestMemory& memory);

}  // namespace limen::boot
