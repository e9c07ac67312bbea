// Making an empty qcow2 image.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "block/file_layer.h"
#include "block/qcow2/header.h"

namespace limen::block::qcow2 {

struct CreateOptions {
  uint64_t size = 0;
  uint32_t version = 3;
  uint64_t cluster_size = 65536;
  unsigned refcount_bits = 16;
  bool lazy_refcounts = false;
  bool extended_l2 = false;
  Compression compression = Compression::kZlib;
  std::string backing_file;
  std::string backing_format;
  std::string data_file;
  bool data_file_raw = false;
};

/// Whether the options go together; errors name the option as `qemu-img create -o` has it.
Result<> check_options(const CreateOptions& options);

/// Writes header, refcounts and L1 table into `file`, which is empty.
Result<> create(FileLayer& file, const CreateOptions& options);

}  // namespace limen::block::qcow2
