// The system tables of the conformance guest: page tables, GDT, IDT, TSS and handlers.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace limen::conformance {

inline constexpr uint64_t kGuestRamSize = 0x40000;
/// Where the guest's supervisor sees the first pages of its physical memory.
inline constexpr uint64_t kSupervisorBase = 0xFFFF'FFFF'8000'0000;

// Guest-physical addresses.
inline constexpr uint64_t kPageTableRoot = 0x1000;
inline constexpr uint64_t kGdt = 0x8000;
inline constexpr uint64_t kIdt = 0x9000;
inline constexpr uint64_t kTss = 0xA000;
inline constexpr uint64_t kHandlers = 0xB000;  ///< Sixteen bytes for each vector.
inline constexpr uint64_t kKernelStackTop = 0xE000;
inline constexpr uint64_t kCodePage = 0x10000;
inline constexpr uint64_t kReadOnlyPage = 0x11000;
inline constexpr uint64_t kWritablePagesStart = 0x12000;  ///< In the image's order.

inline constexpr uint16_t kKernelCode32 = 0x08;
inline constexpr uint16_t kKernelCode = 0x10;
inline constexpr uint16_t kTaskSelector = 0x40;
inline constexpr uint16_t kGdtLimit = 127;
/// The handler of vector N writes to port N and goes no further.
inline constexpr uint16_t kExitPorts = 256;

/// Writes all of them.
Result<> write_guest_tables(memory::GuestMemory& ram);

/// The descriptor that Linux keeps at a selector, as the hidden part of a segment register.
[[nodiscard]] x86::Segment segment_for(uint16_t selector);

}  // namespace limen::conformance
