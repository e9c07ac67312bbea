// The limits of QEMU's throttling.* options.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace limen::block {

/// One limit; in operations or bytes a second.
struct RateLimit {
  uint64_t average = 0;  ///< 0: none.
  uint64_t maximum = 0;  ///< 0: no bursts but a tenth of a second's average.
  uint64_t length = 1;   ///< Seconds for which the maximum may be had.
};

struct ThrottleLimits {
  RateLimit bps_total = {}, bps_read = {}, bps_write = {};
  RateLimit iops_total = {}, iops_read = {}, iops_write = {};
  uint64_t iops_size = 0;  ///< Bytes that count as one operation; 0: any number does.
  [[nodiscard]] bool any() const;
};
/// Fails for limits that contradict each other, as QEMU does.
Result<> check_limits(const ThrottleLimits& limits);

}  // namespace limen::block
