// Where a program's pages stand: a window that is mapped at several places, so that the same
// program, addressing it relative to RIP and registers, runs at each of them.
#pragma once

#include <array>
#include <cstdint>

#include "conformance/trial.h"

namespace limen::conformance {

/// Pages of the window, in the order of Memory.
enum class Page : uint8_t { kCode, kCode2, kData, kData2, kLone, kReadOnly };
inline constexpr size_t kPageCount = 6;
inline constexpr size_t kMemoryPages = kPageCount;

/// Offsets from the window's base; nothing is mapped between them.
inline constexpr std::array<uint32_t, kPageCount> kPageOffsets = {0x4000,  0x5000,  0x10000,
                                                                  0x11000, 0x20000, 0x12000};
inline constexpr uint32_t kCodeOffset = kPageOffsets[0];
inline constexpr uint32_t kDataOffset = kPageOffsets[2];
inline constexpr uint32_t kLoneOffset = kPageOffsets[4];
inline constexpr uint32_t kCodeSize = 2 * kPage;
/// In the lone page: addresses of instructions, for jump tables; valid values of MXCSR.
inline constexpr uint32_t kSlots = kLoneOffset + 0x800;
inline constexpr unsigned kSlotCount = 64;
inline constexpr uint32_t kMxcsrSlots = kLoneOffset + 0x7C0;
inline constexpr unsigned kMxcsrCount = 8;

/// The first is where the native child has its pages too. The last two have their lone page right
/// below the addresses that are not canonical, and at the end of 32-bit addresses.
inline constexpr std::array<uint64_t, 4> kWindows = {kCodeAddress, kCodeAddress + 0x80000,
                                                     0x7FFF'FFFD'F000, 0xFFFD'F000};
inline constexpr unsigned kHighWindow = 2, kTopWindow = 3;
static_assert(kDataAddress == kWindows[0] + kDataOffset);
static_assert(kLoneAddress == kWindows[0] + kLoneOffset);
static_assert(kReadOnlyAddress == kWindows[0] + kPageOffsets[5]);
static_assert(kProgramAddress == kWindows[0] + kCodeOffset);

using Memory = std::array<uint8_t, kMemoryPages * kPage>;

}  // namespace limen::conformance
