// How often each cluster of the file is used: the refcount table, its blocks, and the search for
// free clusters.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "block/file_layer.h"
#include "block/qcow2/header.h"
#include "block/qcow2/slice_cache.h"

namespace limen::block::qcow2 {

/// Reads or writes one refcount in a block's bytes. `index`: within these bytes.
[[nodiscard]] uint64_t load_refcount(const std::byte* block, uint64_t index, unsigned order);
void store_refcount(std::byte* block, uint64_t index, unsigned order, uint64_t value);

/// Not thread-safe: the image's lock guards it. Functions that return int return 0 or an errno.
class Refcounts {
 public:
  /// Called with what is wrong with the image; returns the errno for the request.
  using Corrupt = std::function<int(const std::string&)>;

  Refcounts(FileLayer& file, Header& header, size_t cache_bytes, Corrupt corrupt);

  [[nodiscard]] int load();

  [[nodiscard]] int get(uint64_t cluster, uint64_t& refcount);
  /// For repairs: where there is a block for the cluster.
  [[nodiscard]] int set(uint64_t cluster, uint64_t refcount);
  /// Clusters `cluster` to `cluster + count - 1` get one user more, or one less. A refcount that
  /// would not fit its width: EINVAL, and nothing was changed.
  [[nodiscard]] int change(uint64_t cluster, uint64_t count, int delta);
  /// As change(-1), and says of each cluster that became free.
  [[nodiscard]] int release(uint64_t cluster, uint64_t count,
                            const std::function<void(uint64_t)>& freed);

  // Allocating gives EAGAIN when the table is too short: grow_table() is needed first.

  /// 1 to `most` neighbouring clusters, each with refcount 1. `count` says how many there were.
  [[nodiscard]] int allocate(uint64_t most, uint64_t& offset, uint64_t& count);
  /// Exactly `count` neighbouring clusters.
  [[nodiscard]] int allocate_run(uint64_t count, uint64_t& offset);
  /// `size` bytes at most as long as a cluster, for compressed data, which shares clusters.
  [[nodiscard]] int allocate_bytes(uint64_t size, uint64_t& offset);
  /// Exactly these clusters, if they are all free: for growing in place. False when they are not.
  [[nodiscard]] int allocate_at(uint64_t cluster, uint64_t count, bool& done);

  /// Moves the table to where it can be longer, on the disk when this returns. Nobody may be
  /// writing what take_dirty() and take_dirty_table() gave.
  [[nodiscard]] int grow_table();

  [[nodiscard]] SliceCache& cache() { return cache_; }
  [[nodiscard]] bool table_dirty() const { return !dirty_table_.empty(); }
  [[nodiscard]] std::vector<SliceCache::Copy> take_dirty_table();
  void table_not_written(const std::vector<SliceCache::Copy>& copies);

  /// Whether a cluster holds the table or one of its blocks.
  [[nodiscard]] bool is_table(uint64_t cluster) const;
  [[nodiscard]] bool is_block(uint64_t cluster) const { return blocks_.contains(cluster); }
  [[nodiscard]] const std::vector<uint64_t>& table() const { return table_; }
  [[nodiscard]] uint64_t block_entries() const { return block_entries_; }

 private:
  struct Place {
    SliceCache::Slice* slice = nullptr;  ///< nullptr: no block, all refcounts are 0.
    uint64_t index = 0;                  ///< Within the slice.
  };
  [[nodiscard]] int find(uint64_t cluster, Place& place);
  [[nodiscard]] int find_free(uint64_t most, uint64_t& cluster, uint64_t& count);
  [[nodiscard]] int ensure_blocks(uint64_t cluster, uint64_t count, bool& made);
  [[nodiscard]] int create_block(uint64_t block);
  [[nodiscard]] int place_block(uint64_t block, uint64_t cluster);
  [[nodiscard]] int lengthen_table(uint64_t entries);
  [[nodiscard]] int write_grown_table(uint64_t offset, uint64_t clusters);

  FileLayer& file_;
  Header& header_;
  Corrupt corrupt_;
  const uint64_t cluster_size_;
  const unsigned order_;
  const uint64_t largest_;        ///< Refcount.
  const uint64_t block_entries_;  ///< Refcounts in a block.
  SliceCache cache_;
  std::vector<uint64_t> table_;          // offsets of the blocks
  std::set<uint64_t> dirty_table_;       // indices
  std::unordered_set<uint64_t> blocks_;  // cluster numbers
  uint64_t next_ = 0;                    // no cluster before it is known to be free
  uint64_t next_byte_ = 0;               // where compressed data goes on; 0: nowhere
  bool growing_ = false;
};

}  // namespace limen::block::qcow2
