// KVM's paravirtual interface as data: CPUID leaves, MSRs, and the structures that guest and
// hypervisor share in guest memory. Source: the Linux kernel's
// Documentation/virt/kvm/x86/cpuid.rst, msr.rst and hypercalls.rst.
#pragma once

#include <cstddef>
#include <cstdint>

#include "x86/cpuid.h"

namespace limen::x86::kvm {

inline constexpr uint32_t kSignatureLeaf = 0x4000'0000;
inline constexpr uint32_t kFeatureLeaf = 0x4000'0001;

// Bits of kFeatureLeaf's EAX.
inline constexpr uint32_t kClockSource = 1u << 0;  ///< MSRs 11H and 12H.
inline constexpr uint32_t kNoIoDelay = 1u << 1;
inline constexpr uint32_t kClockSource2 = 1u << 3;  ///< MSRs 4B564D00H and 4B564D01H.
inline constexpr uint32_t kStealTimeFeature = 1u << 5;
inline constexpr uint32_t kPvEoiFeature = 1u << 6;
inline constexpr uint32_t kUnhalt = 1u << 7;
inline constexpr uint32_t kSendIpi = 1u << 11;
/// That there are any, as exits to a guest's own hypervisor, by interrupt.
inline constexpr uint32_t kAsyncPageFaults = 1u << 4 | 1u << 10 | 1u << 14;
inline constexpr uint32_t kClockSourceStable = 1u << 24;  ///< kTscStable can be believed.

namespace msr {
inline constexpr uint32_t kOldWallClock = 0x11;
inline constexpr uint32_t kOldSystemTime = 0x12;
inline constexpr uint32_t kWallClock = 0x4B56'4D00;
inline constexpr uint32_t kSystemTime = 0x4B56'4D01;
inline constexpr uint32_t kStealTime = 0x4B56'4D03;
inline constexpr uint32_t kPvEoi = 0x4B56'4D04;
inline constexpr uint32_t kAsyncPageFaults = 0x4B56'4D02;
inline constexpr uint32_t kPollControl = 0x4B56'4D05;
inline constexpr uint32_t kAsyncPageFaultInterrupt = 0x4B56'4D06;
inline constexpr uint64_t kEnable = 1;  ///< Of all but the wall clock.
}  // namespace msr

/// An odd version says that the rest is being written.
struct WallClock {
  uint32_t version = 0;
  uint32_t seconds = 0;
  uint32_t nanoseconds = 0;
};
static_assert(sizeof(WallClock) == 12);

/// Time now is system_time + scaled(TSC - tsc_timestamp).
struct SystemTime {
  uint32_t version = 0;
  uint32_t reserved = 0;
  uint64_t tsc_timestamp = 0;
  uint64_t system_time = 0;  ///< Nanoseconds.
  uint32_t tsc_to_system_mul = 0;
  int8_t tsc_shift = 0;
  uint8_t flags = 0;
  uint8_t reserved_at_end[2] = {};

  static constexpr uint8_t kTscStable = 1;     ///< Times of several processors can be compared.
  static constexpr uint8_t kGuestStopped = 2;  ///< Set for the guest's watchdogs, which clear it.
};
static_assert(sizeof(SystemTime) == 32 && offsetof(SystemTime, tsc_timestamp) == 8 &&
              offsetof(SystemTime, flags) == 29);

struct StealTime {
  uint64_t steal = 0;    ///< Nanoseconds in which the processor wanted to run and could not.
  uint32_t version = 0;  ///< Odd: being written.
  uint32_t flags = 0;
  uint8_t preempted = 0;
  uint8_t reserved[47] = {};
};
static_assert(sizeof(StealTime) == 64 && offsetof(StealTime, version) == 8);

/// Nanoseconds of a count: the count shifted left by `shift` (right if negative), times
/// `multiplier`, divided by 2^32.
struct ClockScale {
  uint32_t multiplier = 0;
  int8_t shift = 0;

  [[nodiscard]] uint64_t nanoseconds(uint64_t count) const;
};
/// For a counter of that frequency, which is not 0; as exact as 32 bits allow.
[[nodiscard]] ClockScale clock_scale(uint64_t hz);

/// "KVMKVMKVM", with kFeatureLeaf as the last leaf.
[[nodiscard]] CpuidResult signature();
/// Leaves the accelerator's own signature alone in the hypervisor's leaves.
void hide(CpuidTable& table);

// Hypercalls: the number is in RAX, and the result.
inline constexpr uint64_t kPollInterruptsCall = 1;
inline constexpr int64_t kNoSuchCall = -1000;
inline constexpr int64_t kNotPermitted = -1;

}  // namespace limen::x86::kvm
