// Where the components of the processor's state lie in an XSAVE area (SDM Vol. 1 13.4).
#pragma once

#include <array>
#include <cstdint>

#include "x86/cpuid.h"

namespace limen::soft::interpret::native {

inline constexpr uint64_t kLegacyAreaSize = 512;
inline constexpr uint64_t kHeaderSize = 64;
inline constexpr uint64_t kExtendedAt = kLegacyAreaSize + kHeaderSize;

struct StateLayout {
  struct Component {
    uint32_t offset = 0;  ///< In the standard format.
    uint32_t size = 0;
    bool aligned = false;  ///< To 64 bytes in the compacted format.
  };
  static constexpr unsigned kComponents = 10;
  std::array<Component, kComponents> components{};
  bool compaction = false;  ///< XSAVEC and the compacted form of XRSTOR exist.

  /// Where `component` is when an area is compacted as `format` (XCOMP_BV) says.
  [[nodiscard]] uint64_t compacted_offset(uint64_t format, unsigned component) const;
  [[nodiscard]] uint64_t offset(uint64_t format, unsigned component) const {
    return format >> 63 ? compacted_offset(format, component) : components[component].offset;
  }
};

/// As CPUID.0DH tells the guest. The object lives as long as the process.
[[nodiscard]] const StateLayout& state_layout(const x86::CpuidTable& cpuid);

}  // namespace limen::soft::interpret::native
