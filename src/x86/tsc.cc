#include "x86/tsc.h"

#include <cmath>

namespace limen::x86 {

TscRatio tsc_ratio(uint64_t tsc_hz, uint64_t crystal_hz) {
  const uint64_t limit = ~uint32_t{0} / (crystal_hz / 1000);
  TscRatio best;
  double best_error = 0;
  for (uint64_t denominator = 1; denominator <= limit; ++denominator) {
    const uint64_t numerator = (tsc_hz * denominator + crystal_hz / 2) / crystal_hz;
    if (numerator > limit) break;
    const double error =
        std::abs(static_cast<double>(numerator) / static_cast<double>(denominator) -
                 static_cast<double>(tsc_hz) / static_cast<double>(crystal_hz));
    if (numerator == 0 || (best.denominator != 0 && error >= best_error)) continue;
    best = {static_cast<uint32_t>(numerator), static_cast<uint32_t>(denominator)};
    best_error = error;
  }
  return best;
}

}  // namespace limen::x86
