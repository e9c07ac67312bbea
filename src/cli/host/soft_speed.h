// How far from native the software engine is on this host: one second and a half of a small guest.
#pragma once

#include "base/result.h"

namespace limen::cli::host {

/// The same machine code, of calls, arithmetic and memory, in this process and in a guest of -accel
/// soft. Rounds of its loop a second of processor time.
struct SoftSpeed {
  double native_rate = 0;
  double soft_rate = 0;
  [[nodiscard]] double ratio() const { return native_rate > 0 ? soft_rate / native_rate : 0; }
};

/// Fails where a guest cannot be made, or computes something else than the processor.
[[nodiscard]] Result<SoftSpeed> measure_soft();

}  // namespace limen::cli::host
