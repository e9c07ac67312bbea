// Copying the content of disks into another, with several threads: what convert and dd do.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "block/layer.h"
#include "block/qcow2/image.h"
#include "cli/image/verbs.h"

namespace limen::cli::image {

struct CopyOptions {
  uint64_t sparse = 4096;     ///< Runs of zeroes of this many bytes are not stored; 0: all are.
  bool compress = false;
  bool out_of_order = false;
  unsigned threads = 8;
  bool target_is_zero = true;  ///< What is not written reads as zeroes.
  bool target_has_backing = false;  ///< What the top layer of the source does not have is there.
};

/// The sources stand one behind the other.
Result<> copy(const std::vector<std::unique_ptr<block::Layer>>& sources, block::Layer& target,
              const CopyOptions& options, Progress& progress);

}  // namespace limen::cli::image
