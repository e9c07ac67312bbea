// Register numbers and bits of the local APIC (SDM Vol. 3A tables 11-1 and 11-6). A register's
// number is its x2APIC MSR less 800H, and its offset in the xAPIC page divided by 16.
#pragma once

#include <cstdint>

namespace limen::irq::apic {

enum Register : unsigned {
  kId = 0x02,
  kVersion = 0x03,
  kTaskPriority = 0x08,
  kArbitrationPriority = 0x09,
  kProcessorPriority = 0x0A,
  kEoi = 0x0B,
  kLogicalDestination = 0x0D,
  kDestinationFormat = 0x0E,
  kSpuriousVector = 0x0F,
  kIsr = 0x10,
  kTmr = 0x18,
  kIrr = 0x20,
  kErrorStatus = 0x28,
  kIcrLow = 0x30,
  kIcrHigh = 0x31,
  kFirstLvt = 0x32,
  kInitialCount = 0x38,
  kCurrentCount = 0x39,
  kDivide = 0x3E,
  kSelfIpi = 0x3F,
};

/// Version 14H, six LVT entries, EOI broadcasts can be suppressed.
inline constexpr uint32_t kVersionValue = 0x14 | 5u << 16 | 1u << 24;

inline constexpr uint64_t kBaseBootstrap = 1u << 8;
inline constexpr uint64_t kBaseX2apic = 1u << 10;
inline constexpr uint64_t kBaseEnable = 1u << 11;
inline constexpr uint64_t kBaseAddressMask = ~uint64_t{0xFFF};

inline constexpr uint32_t kLvtLevel = 1u << 15;
inline constexpr uint32_t kLvtMasked = 1u << 16;
inline constexpr unsigned kTimerModeShift = 17;
inline constexpr unsigned kTimerOneShot = 0;
inline constexpr unsigned kTimerPeriodic = 1;
inline constexpr unsigned kTimerDeadline = 2;

inline constexpr uint32_t kSvrEnable = 1u << 8;
inline constexpr uint32_t kSvrSuppressBroadcast = 1u << 12;
inline constexpr uint32_t kIcrBusy = 1u << 12;

inline constexpr uint32_t kErrorSendIllegalVector = 1u << 5;
inline constexpr uint32_t kErrorReceivedIllegalVector = 1u << 6;
inline constexpr uint32_t kErrorIllegalRegister = 1u << 7;

/// Vectors below are reserved for exceptions (SDM Vol. 3A 11.5.2).
inline constexpr unsigned kFirstVector = 16;

}  // namespace limen::irq::apic
