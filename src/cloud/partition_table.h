// GUID partition tables (UEFI 2.10 §5.3), as published cloud images have them: read to find the
// file system that a kernel should take for its root.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace limen::cloud {

struct Partition {
  unsigned number = 0;  ///< From 1, as Linux numbers them.
  std::string type;     ///< GUIDs in small letters, as Linux writes them.
  std::string id;
  uint64_t start = 0;  ///< Bytes.
  uint64_t size = 0;   ///< Bytes.
};

/// A disk of `size` bytes.
struct DiskReader {
  uint64_t size = 0;
  std::function<Result<>(uint64_t offset, std::span<uint8_t> bytes)> read;
};

/// The partitions in use, in the table's order; nothing where the disk has no such table. If the
/// first header or its table is damaged, the second one counts, at the disk's end; if both are, the
/// error says how.
Result<std::optional<std::vector<Partition>>> read_partitions(const DiskReader& disk);

/// The one with the type "root (x86-64)" of the Discoverable Partitions Specification; without one,
/// the largest Linux file system.
[[nodiscard]] const Partition* find_root(std::span<const Partition> partitions);

}  // namespace limen::cloud
