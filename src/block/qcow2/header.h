// The header of a qcow2 image with its extensions, checked.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/qcow2/format.h"

namespace limen::block::qcow2 {

enum class Compression : uint8_t { kZlib = 0, kZstd = 1 };

/// An extension that is kept as it is.
struct Extension {
  uint32_t type = 0;
  std::vector<std::byte> data;
};

struct Header {
  uint32_t version = 3;
  unsigned cluster_bits = 16;
  uint64_t size = 0;     ///< Bytes of the disk.
  uint32_t l1_size = 0;  ///< Entries.
  uint64_t l1_offset = 0;
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshot_count = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible = 0, compatible = 0, autoclear = 0;
  unsigned refcount_order = 4;  ///< Bits of a refcount: 1 << order.
  uint32_t header_length = kOwnHeaderSize;
  Compression compression = Compression::kZlib;
  std::string backing_file;
  std::string backing_format;  ///< "": not said.
  std::string data_file;
  std::vector<Extension> extensions;  ///< Those that no other member stands for.

  [[nodiscard]] uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
  [[nodiscard]] bool extended() const { return (incompatible & kExtendedL2) != 0; }
  [[nodiscard]] bool has_data_file() const { return (incompatible & kDataFile) != 0; }
  [[nodiscard]] bool raw_data_file() const {
    return has_data_file() && (autoclear & kDataFileRaw) != 0;
  }
  [[nodiscard]] bool lazy_refcounts() const { return (compatible & kLazyRefcounts) != 0; }
  [[nodiscard]] uint64_t l2_entry_size() const { return extended() ? 16 : 8; }
  [[nodiscard]] uint64_t l2_entries() const { return cluster_size() / l2_entry_size(); }
  /// Guest bytes that one L2 table covers.
  [[nodiscard]] uint64_t l2_coverage() const { return l2_entries() * cluster_size(); }
  [[nodiscard]] uint64_t subcluster_size() const {
    return extended() ? cluster_size() / kSubclusters : cluster_size();
  }
  /// L1 entries that a disk of `bytes` takes.
  [[nodiscard]] uint64_t l1_entries_for(uint64_t bytes) const {
    return divide_up(bytes, l2_coverage());
  }
  [[nodiscard]] unsigned refcount_bits() const { return 1u << refcount_order; }
};

/// `start`: the image's first cluster, or its first 64 KiB, or the whole file when that is shorter.
/// Errors name the image by `path`, the field and its value; an encrypted image and features that
/// are not known are refused by name.
Result<Header> parse_header(std::span<const std::byte> start, const std::string& path);

/// The first cluster of the image. Fails when it does not fit.
Result<std::vector<std::byte>> serialize_header(const Header& header);

}  // namespace limen::block::qcow2
