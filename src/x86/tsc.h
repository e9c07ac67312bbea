// The host's time-stamp counter, which is also the guest's clock.
#pragma once

#include <cstdint>

namespace limen::x86 {

/// Frequency that CPUID.15H:ECX gives for the core crystal clock, at which the local APIC's timer
/// counts before its divider (SDM Vol. 3A 11.5.4).
inline constexpr uint64_t kCrystalHz = 1'000'000'000;

/// CPUID.15H EBX and EAX: the fraction nearest to tsc_hz / crystal_hz for which
/// crystal_hz / 1000 * numerator fits 32 bits, as guests compute with that.
struct TscRatio {
  uint32_t numerator = 0;
  uint32_t denominator = 0;
};
[[nodiscard]] TscRatio tsc_ratio(uint64_t tsc_hz, uint64_t crystal_hz);

}  // namespace limen::x86
