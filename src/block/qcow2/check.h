// Whether the refcounts and flags of an image agree with what its tables use, and making them so.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"

namespace limen::block::qcow2 {

class Image;

struct CheckResult {
  uint64_t check_errors = 0;
  uint64_t corruptions = 0;
  uint64_t leaks = 0;
  uint64_t corruptions_fixed = 0;
  uint64_t leaks_fixed = 0;
  uint64_t image_end_offset = 0;
  uint64_t total_clusters = 0;
  uint64_t allocated_clusters = 0;
  uint64_t fragmented_clusters = 0;
  uint64_t compressed_clusters = 0;
};

enum class Fix : uint8_t { kNothing, kLeaks, kAll };

/// `report` is given a line for each thing that is wrong. The image must have been opened with
/// check_only, for writing if anything is to be repaired, and be used for nothing else afterwards.
Result<CheckResult> check(Image& image, Fix fix, const std::function<void(const std::string&)>& report);

/// Makes the refcounts what they ought to be and takes the dirty bit away. Fails when more is wrong.
Result<> repair(Image& image);

}  // namespace limen::block::qcow2
