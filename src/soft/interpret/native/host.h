// What the processor under the engine has.
#pragma once

#include <cstdint>

namespace limen::soft::interpret::native {

struct HostFeatures {
  bool xsave = false;
  bool avx = false;
  bool avx512f = false;
  bool avx512bw = false;
  bool bmi2 = false;
  bool saves_x87_pointers = false;  ///< FXSAVE and XSAVE store them with no exception pending, too.
  // FOP and FDP are noted by every instruction that can, not only by one that raises an exception.
  bool notes_x87_opcode = false;
  bool notes_x87_data = false;
  uint32_t mxcsr_mask = 0xFFBF;  ///< Bits of MXCSR that may be set (SDM Vol. 1 11.6.6).
};

/// Asked of the processor and of the operating system (XCR0) once.
[[nodiscard]] const HostFeatures& host_features();

}  // namespace limen::soft::interpret::native
