// Writes of nothing but zeroes become write-zeroes: QEMU's detect-zeroes=.
#pragma once

#include "block/filters/filter.h"

namespace limen::block {

class DetectZeroes final : public Filter {
 public:
  /// `unmap`: the image may give the space back (detect-zeroes=unmap with discard=unmap).
  DetectZeroes(std::unique_ptr<BlockDevice> below, bool unmap)
      : Filter(std::move(below)), unmap_(unmap) {}

  void submit(Request request) override;

 private:
  const bool unmap_;
};

/// Whether all bytes are zero.
[[nodiscard]] bool all_zero(const std::vector<iovec>& buffers);

}  // namespace limen::block
