#include "block/qcow2/create.h"

#include <algorithm>
#include <bit>

#include "block/qcow2/refcounts.h"

namespace limen::block::qcow2 {

Result<> check_options(const CreateOptions& options) {
  const uint64_t cluster = options.cluster_size;
  if (!std::has_single_bit(cluster) || cluster < (1u << kSmallestClusterBits) ||
      cluster > (1u << kLargestClusterBits))
    return fail("cluster_size={}: cluster size must be a power of two between 512 and 2048k", cluster);
  const bool version_3 = options.version >= 3;
  if (!std::has_single_bit(options.refcount_bits) || options.refcount_bits > 64)
    return fail("refcount_bits={}: refcount width must be a power of two and may not exceed 64 bits",
                options.refcount_bits);
  if (!version_3 && options.refcount_bits != 16)
    return fail("refcount_bits={}: different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)",
                options.refcount_bits);
  if (!version_3 && options.lazy_refcounts)
    return fail("lazy_refcounts=on: lazy refcounts only supported with compatibility level v3 and above (use version=v3 or greater)");
  if (!version_3 && options.compression != Compression::kZlib)
    return fail("compression_type=zstd: non-zlib compression type is only supported with compatibility level v3 and above (use version=v3 or greater)");
  if (!version_3 && !options.data_file.empty())
    return fail("data_file={}: external data files are only supported with compatibility level v3 and above (use version=v3 or greater)",
                options.data_file);
  if (options.extended_l2 && !version_3)
    return fail("extended_l2=on: extended L2 entries are only supported with compatibility level v3 and above (use version=v3 or greater)");
  if (options.extended_l2 && cluster < 16384)
    return fail("extended_l2=on: extended L2 entries are only supported with cluster sizes of at least 16384 bytes, not {}",
                cluster);
  if (options.data_file_raw && options.data_file.empty())
    return fail("data_file_raw=on: data-file-raw requires data-file");
  if (options.data_file_raw && !options.backing_file.empty())
    return fail("data_file_raw=on: backing file and data-file-raw cannot be used at the same time");
  if (options.backing_file.size() > kLargestBackingName)
    return fail("backing file name of {} bytes is too long: at most {} may be",
                options.backing_file.size(), kLargestBackingName);
  Header header;
  header.cluster_bits = static_cast<unsigned>(std::countr_zero(cluster));
  header.incompatible = options.extended_l2 ? kExtendedL2 : 0;
  if (options.size > uint64_t{INT64_MAX} - cluster ||
      header.l1_entries_for(options.size) > kLargestL1 / 8)
    return fail("size={}: the image size is too large for a cluster size of {} (try using a larger cluster size)",
                options.size, cluster);
  return {};
}

Result<> create(FileLayer& file, const CreateOptions& options) {
  LIMEN_TRY(check_options(options));
  const uint64_t cluster = options.cluster_size;
  Header header;
  header.version = options.version;
  header.cluster_bits = static_cast<unsigned>(std::countr_zero(cluster));
  header.size = options.size;
  header.refcount_order = static_cast<unsigned>(std::countr_zero(options.refcount_bits));
  header.compression = options.compression;
  if (options.lazy_refcounts) header.compatible |= kLazyRefcounts;
  if (options.extended_l2) header.incompatible |= kExtendedL2;
  if (options.compression != Compression::kZlib) header.incompatible |= kCompressionType;
  if (!options.data_file.empty()) header.incompatible |= kDataFile;
  if (options.data_file_raw) header.autoclear |= kDataFileRaw;
  header.backing_file = options.backing_file;
  header.backing_format = options.backing_format;
  header.data_file = options.data_file;
  header.l1_size = static_cast<uint32_t>(header.l1_entries_for(options.size));

  // Header, refcount table, refcount blocks, L1 table.
  const uint64_t l1_clusters = std::max<uint64_t>(divide_up(uint64_t{header.l1_size} * 8, cluster), 1);
  const uint64_t per_block = cluster * 8 / header.refcount_bits();
  uint64_t blocks = 1, table_clusters = 1;
  while (true) {
    const uint64_t used = 1 + table_clusters + blocks + l1_clusters;
    const uint64_t need = divide_up(used, per_block), table_need = divide_up(blocks * 8, cluster);
    if (need <= blocks && table_need <= table_clusters) break;
    blocks = std::max(blocks, need);
    table_clusters = std::max(table_clusters, table_need);
  }
  const uint64_t used = 1 + table_clusters + blocks + l1_clusters;
  header.refcount_table_offset = cluster;
  header.refcount_table_clusters = static_cast<uint32_t>(table_clusters);
  header.l1_offset = (1 + table_clusters + blocks) * cluster;

  const auto first = LIMEN_TRY(serialize_header(header));
  std::vector<std::byte> table(table_clusters * cluster), block(cluster);
  int error = 0;
  for (uint64_t i = 0; i < blocks && error == 0; ++i) {
    store_big(&table[8 * i], (1 + table_clusters + i) * cluster);
    std::ranges::fill(block, std::byte{0});
    for (uint64_t j = 0; j < per_block && i * per_block + j < used; ++j)
      store_refcount(block.data(), j, header.refcount_order, 1);
    error = file.write_bytes((1 + table_clusters + i) * cluster, block);
  }
  if (error == 0) error = file.write_bytes(cluster, table);
  if (error == 0) error = file.write_zeroes(header.l1_offset, l1_clusters * cluster, true);
  if (error == 0) error = file.truncate(std::max(used * cluster, file.file_size()));
  // The header last: before, the file is no image.
  if (error == 0) error = file.write_bytes(0, first);
  if (error != 0) return fail_errno(error, fmt::format("writing image '{}'", file.path()));
  return {};
}

}  // namespace limen::block::qcow2
