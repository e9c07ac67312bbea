// The limits of QEMU's throttling.* options.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

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
/// Total, reads and writes: of bytes, then of operations.
[[nodiscard]] std::array<const RateLimit*, 6> all_limits(const ThrottleLimits& limits);

/// The number that QEMU calls "iops-size", "bps-read", "bps-read-max", "bps-read-max-length" and so
/// on; null: there is none of that name.
[[nodiscard]] uint64_t* limit_field(ThrottleLimits& limits, std::string_view name);
/// All names for which limit_field() has one.
[[nodiscard]] std::vector<std::string> limit_names();

/// Fails for limits that contradict each other, as QEMU does.
Result<> check_limits(const ThrottleLimits& limits);

}  // namespace limen::block
