// Exceptions and their vectors (SDM Vol. 3A 6.15).
#pragma once

#include <cstdint>

namespace limen::x86 {

enum class Vector : uint8_t {
  kDivideError = 0,
  kDebug = 1,
  kNmi = 2,
  kBreakpoint = 3,
  kOverflow = 4,
  kBoundRange = 5,
  kInvalidOpcode = 6,
  kDeviceNotAvailable = 7,
  kDoubleFault = 8,
  kInvalidTss = 10,
  kSegmentNotPresent = 11,
  kStackFault = 12,
  kGeneralProtection = 13,
  kPageFault = 14,
  kX87FloatingPoint = 16,
  kAlignmentCheck = 17,
  kMachineCheck = 18,
  kSimdFloatingPoint = 19,
};

/// A fault or trap to deliver to the guest.
struct Exception {
  Vector vector;
  bool has_error_code = false;
  uint32_t error_code = 0;
  uint64_t fault_address = 0;  ///< Linear address for CR2; #PF only.
  uint64_t debug_status = 0;   ///< Bits to set in DR6; #DB only.

  static constexpr Exception plain(Vector vector) { return {.vector = vector}; }
  static constexpr Exception with_code(Vector vector, uint32_t code) {
    return {.vector = vector, .has_error_code = true, .error_code = code};
  }
  static constexpr Exception general_protection(uint32_t code = 0) {
    return with_code(Vector::kGeneralProtection, code);
  }
  static constexpr Exception invalid_opcode() { return plain(Vector::kInvalidOpcode); }
  static constexpr Exception page_fault(uint64_t address, uint32_t code) {
    return {.vector = Vector::kPageFault,
            .has_error_code = true,
            .error_code = code,
            .fault_address = address};
  }
};

/// Bits of the page-fault error code (SDM Vol. 3A 4.7).
namespace page_fault_code {
inline constexpr uint32_t kPresent = 1u << 0;
inline constexpr uint32_t kWrite = 1u << 1;
inline constexpr uint32_t kUser = 1u << 2;
inline constexpr uint32_t kReserved = 1u << 3;
inline constexpr uint32_t kInstruction = 1u << 4;
inline constexpr uint32_t kProtectionKey = 1u << 5;
}  // namespace page_fault_code

}  // namespace limen::x86
