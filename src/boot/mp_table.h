// The MultiProcessor configuration table, by which a kernel without ACPI finds processors and the
// I/O APIC (Intel MultiProcessor Specification 1.4, document 242016, chapter 4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "x86/address.h"

namespace limen::boot::mp {

/// In the BIOS area, one of the places where a kernel searches for "_MP_" (section 4).
inline constexpr uint64_t kTableAddress = 0xF'0000;

/// A board without PCI.
struct Board {
  /// The first is the boot processor's. The table has no place for ids above 254: those processors
  /// are left out.
  std::span<const uint32_t> apic_ids = {};
  uint32_t cpu_signature = 0;  ///< CPUID.1:EAX.
  uint32_t cpu_features = 0;   ///< CPUID.1:EDX.
  bool pic = true;
  bool pit = true;
  /// ISA interrupts that are level-triggered and active high. The others are edge-triggered.
  std::span<const uint8_t> level_lines = {};
};

/// The floating pointer structure and behind it the table, as they lie at kTableAddress.
std::vector<std::byte> build(const Board& board);
/// Writes them into RAM. Fails where there is none.
Result<> install(memory::GuestMemory& memory, const Board& board);

}  // namespace limen::boot::mp
