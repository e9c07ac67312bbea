#include "block/qcow2/refcounts.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace limen::block::qcow2 {
namespace {

constexpr uint64_t kMostClusterBytes = uint64_t{1} << 56;

}  // namespace

uint64_t load_refcount(const std::byte* block, uint64_t index, unsigned order) {
  switch (order) {
    case 3:
      return std::to_integer<uint64_t>(block[index]);
    case 4:
      return load_big<uint16_t>(block + 2 * index);
    case 5:
      return load_big<uint32_t>(block + 4 * index);
    case 6:
      return load_big<uint64_t>(block + 8 * index);
    default: {
      const unsigned bits = 1u << order;
      const uint64_t bit = index << order;
      return std::to_integer<uint64_t>(block[bit / 8]) >> (bit % 8) & ((1u << bits) - 1);
    }
  }
}

void store_refcount(std::byte* block, uint64_t index, unsigned order, uint64_t value) {
  switch (order) {
    case 3:
      block[index] = static_cast<std::byte>(value);
      break;
    case 4:
      store_big(block + 2 * index, static_cast<uint16_t>(value));
      break;
    case 5:
      store_big(block + 4 * index, static_cast<uint32_t>(value));
      break;
    case 6:
      store_big(block + 8 * index, value);
      break;
    default: {
      const unsigned bits = 1u << order;
      const uint64_t bit = index << order;
      const auto mask = static_cast<uint8_t>(((1u << bits) - 1) << (bit % 8));
      auto& byte = block[bit / 8];
      byte = (byte & ~std::byte{mask}) | (static_cast<std::byte>(value << (bit % 8)) & std::byte{mask});
    }
  }
}

Refcounts::Refcounts(FileLayer& file, Header& header, size_t cache_bytes, Corrupt corrupt)
    : file_(file),
      header_(header),
      corrupt_(std::move(corrupt)),
      cluster_size_(header.cluster_size()),
      order_(header.refcount_order),
      largest_(order_ == 6 ? UINT64_MAX : (uint64_t{1} << header.refcount_bits()) - 1),
      block_entries_(header.cluster_size() * 8 / header.refcount_bits()),
      cache_(file, static_cast<size_t>(std::min<uint64_t>(header.cluster_size(), 4096)),
             std::max<size_t>(cache_bytes / static_cast<size_t>(std::min<uint64_t>(header.cluster_size(), 4096)), 16)) {}

int Refcounts::load() {
  const uint64_t bytes = header_.refcount_table_clusters * cluster_size_;
  std::vector<std::byte> raw(bytes);
  if (const int error = file_.read_bytes(header_.refcount_table_offset, raw); error != 0)
    return error;
  table_.resize(bytes / 8);
  blocks_.clear();
  for (size_t i = 0; i < table_.size(); ++i) {
    table_[i] = load_big<uint64_t>(&raw[8 * i]);
    if (table_[i] != 0) blocks_.insert(table_[i] / cluster_size_);
  }
  dirty_table_.clear();
  cache_.clear();
  next_ = 0;
  next_byte_ = 0;
  return 0;
}

bool Refcounts::is_table(uint64_t cluster) const {
  const uint64_t first = header_.refcount_table_offset / cluster_size_;
  return cluster >= first && cluster < first + header_.refcount_table_clusters;
}

int Refcounts::find(uint64_t cluster, Place& place) {
  const uint64_t block = cluster / block_entries_;
  if (block >= table_.size() || table_[block] == 0) {
    place.slice = nullptr;
    return 0;
  }
  const uint64_t offset = table_[block];
  if (offset % cluster_size_ != 0)
    return corrupt_(fmt::format("Refblock offset {:#x} unaligned (reftable index: {:#x})", offset,
                                block));
  const uint64_t slice_entries = cache_.slice_size() * 8 / header_.refcount_bits();
  const uint64_t index = cluster % block_entries_;
  int error = 0;
  place.slice = cache_.get(offset + index / slice_entries * cache_.slice_size(), error);
  place.index = index % slice_entries;
  return error;
}

int Refcounts::get(uint64_t cluster, uint64_t& refcount) {
  Place place;
  if (const int error = find(cluster, place); error != 0) return error;
  refcount =
      place.slice == nullptr ? 0 : load_refcount(place.slice->bytes.get(), place.index, order_);
  return 0;
}

int Refcounts::set(uint64_t cluster, uint64_t refcount) {
  Place place;
  if (const int error = find(cluster, place); error != 0) return error;
  if (place.slice == nullptr) return EIO;
  store_refcount(place.slice->bytes.get(), place.index, order_, refcount);
  cache_.mark_dirty(*place.slice);
  if (refcount == 0) {
    next_ = std::min(next_, cluster);
    if (next_byte_ / cluster_size_ == cluster) next_byte_ = 0;
  }
  return 0;
}

int Refcounts::change(uint64_t cluster, uint64_t count, int delta) {
  if (delta > 0) {
    bool made = false;
    if (const int error = ensure_blocks(cluster, count, made); error != 0) return error;
  }
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t refcount = 0;
    int error = get(cluster + i, refcount);
    if (error == 0 && delta > 0 && refcount >= largest_) error = EINVAL;
    if (error == 0 && delta < 0 && refcount == 0)
      error = corrupt_(fmt::format("Cluster {:#x} is in use and has refcount 0 (refcount block: {:#x})",
                                   (cluster + i) * cluster_size_,
                                   (cluster + i) / block_entries_));
    if (error == 0) error = set(cluster + i, delta > 0 ? refcount + 1 : refcount - 1);
    if (error != 0) {
      // As it was before.
      for (uint64_t j = 0; j < i; ++j)
        if (get(cluster + j, refcount) == 0)
          std::ignore = set(cluster + j, delta > 0 ? refcount - 1 : refcount + 1);
      return error;
    }
  }
  return 0;
}

int Refcounts::release(uint64_t cluster, uint64_t count,
                       const std::function<void(uint64_t)>& freed) {
  if (const int error = change(cluster, count, -1); error != 0) return error;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t refcount = 1;
    if (get(cluster + i, refcount) == 0 && refcount == 0 && freed) freed(cluster + i);
  }
  return 0;
}

int Refcounts::find_free(uint64_t most, uint64_t& cluster, uint64_t& count) {
  uint64_t refcount = 0;
  for (cluster = next_;; ++cluster) {
    if (cluster >= kMostClusterBytes / cluster_size_) return EFBIG;
    if (const int error = get(cluster, refcount); error != 0) return error;
    if (refcount == 0) break;
  }
  next_ = cluster;
  for (count = 1; count < most; ++count) {
    if (const int error = get(cluster + count, refcount); error != 0) return error;
    if (refcount != 0) break;
  }
  return 0;
}

int Refcounts::allocate(uint64_t most, uint64_t& offset, uint64_t& count) {
  while (true) {
    uint64_t cluster = 0;
    if (const int error = find_free(most, cluster, count); error != 0) return error;
    bool made = false;
    if (const int error = ensure_blocks(cluster, count, made); error != 0) return error;
    if (made) continue;  // a block may have gone where the run was
    if (cluster == 0 || is_table(cluster) || is_block(cluster))
      return corrupt_(fmt::format(
          "Preventing invalid allocation of a cluster at offset {:#x}, which holds metadata and has refcount 0",
          cluster * cluster_size_));
    for (uint64_t i = 0; i < count; ++i)
      if (const int error = set(cluster + i, 1); error != 0) return error;
    next_ = cluster + count;
    offset = cluster * cluster_size_;
    return 0;
  }
}

int Refcounts::allocate_run(uint64_t wanted, uint64_t& offset) {
  uint64_t from = next_;
  while (true) {
    uint64_t cluster = 0, count = 0;
    const uint64_t before = std::exchange(next_, from);
    const int error = find_free(wanted, cluster, count);
    next_ = std::min(before, next_);
    if (error != 0) return error;
    if (count < wanted) {
      from = cluster + count;
      continue;
    }
    bool done = false;
    if (const int failed = allocate_at(cluster, wanted, done); failed != 0) return failed;
    if (!done) continue;
    offset = cluster * cluster_size_;
    return 0;
  }
}

int Refcounts::allocate_at(uint64_t cluster, uint64_t count, bool& done) {
  done = false;
  bool made = false;
  if (const int error = ensure_blocks(cluster, count, made); error != 0) return error;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t refcount = 0;
    if (const int error = get(cluster + i, refcount); error != 0) return error;
    if (refcount != 0) return 0;
  }
  for (uint64_t i = 0; i < count; ++i)
    if (const int error = set(cluster + i, 1); error != 0) return error;
  done = true;
  return 0;
}

int Refcounts::allocate_bytes(uint64_t size, uint64_t& offset) {
  const uint64_t used = next_byte_ % cluster_size_;
  if (next_byte_ != 0 && used != 0) {
    const uint64_t cluster = next_byte_ / cluster_size_;
    uint64_t refcount = 0;
    if (const int error = get(cluster, refcount); error != 0) return error;
    bool fits = size <= cluster_size_ - used;
    if (refcount != 0 && refcount < largest_) {
      if (!fits) {
        if (const int error = allocate_at(cluster + 1, 1, fits); error != 0) return error;
      }
      if (fits) {
        if (const int error = change(cluster, 1, 1); error != 0) return error;
        offset = next_byte_;
        next_byte_ += size;
        return 0;
      }
    }
  }
  uint64_t count = 0;
  if (const int error = allocate(1, offset, count); error != 0) return error;
  next_byte_ = offset + size;
  return 0;
}

int Refcounts::ensure_blocks(uint64_t cluster, uint64_t count, bool& made) {
  made = false;
  const uint64_t last = (cluster + count - 1) / block_entries_;
  for (uint64_t block = cluster / block_entries_; block <= last; ++block) {
    if (block < table_.size() && table_[block] != 0) continue;
    if (const int error = create_block(block); error != 0) return error;
    made = true;
  }
  return 0;
}

int Refcounts::create_block(uint64_t block) {
  if (block >= table_.size()) {
    if (!growing_) return EAGAIN;
    if (const int error = lengthen_table(block + 1); error != 0) return error;
  }
  while (table_[block] == 0) {
    uint64_t cluster = 0, count = 0;
    if (const int error = find_free(1, cluster, count); error != 0) return error;
    const uint64_t home = cluster / block_entries_;
    if (home != block && (home >= table_.size() || table_[home] == 0)) {
      // Ends: the block that describes the first free cluster goes into that cluster.
      if (const int error = create_block(home); error != 0) return error;
      continue;
    }
    if (const int error = place_block(block, cluster); error != 0) return error;
  }
  return 0;
}

int Refcounts::place_block(uint64_t block, uint64_t cluster) {
  if (cluster == 0 || is_table(cluster) || is_block(cluster))
    return corrupt_(
        fmt::format("Preventing invalid allocation of refcount block at offset {:#x}", cluster * cluster_size_));
  const uint64_t offset = cluster * cluster_size_;
  if (const int error = file_.write_zeroes(offset, cluster_size_, false); error != 0) return error;
  table_[block] = offset;
  if (const int error = set(cluster, 1); error != 0) {
    table_[block] = 0;
    return error;
  }
  blocks_.insert(cluster);
  dirty_table_.insert(block);
  next_ = cluster + 1;
  return 0;
}

int Refcounts::lengthen_table(uint64_t entries) {
  entries = round_up(std::max(entries, table_.size() * 3 / 2), cluster_size_ / 8);
  if (entries * 8 > kLargestRefcountTable) return EFBIG;
  table_.resize(entries);
  return 0;
}

int Refcounts::grow_table() {
  growing_ = true;
  const uint64_t old_offset = header_.refcount_table_offset;
  const uint32_t old_clusters = header_.refcount_table_clusters;
  const uint64_t old_entries = table_.size();
  uint64_t offset = 0;
  uint64_t clusters = 0;
  int error = lengthen_table(table_.size() + 1);
  while (error == 0) {
    clusters = table_.size() * 8 / cluster_size_;
    error = allocate_run(clusters, offset);
    if (error != 0 || table_.size() * 8 / cluster_size_ == clusters) break;
    // Describing the table took a longer table.
    error = change(offset / cluster_size_, clusters, -1);
    if (error != 0) break;
  }
  growing_ = false;
  if (error == 0) error = write_grown_table(offset, clusters);
  if (error != 0) {
    // The blocks that only the longer table would point to are forgotten with it.
    for (uint64_t i = old_entries; i < table_.size(); ++i) blocks_.erase(table_[i] / cluster_size_);
    table_.resize(old_entries);
    dirty_table_.erase(dirty_table_.lower_bound(old_entries), dirty_table_.end());
    return error;
  }
  return change(old_offset / cluster_size_, old_clusters, -1);
}

int Refcounts::write_grown_table(uint64_t offset, uint64_t clusters) {
  int error = 0;
  // Everything that the new table points to, then the table, then the header: at each moment the
  // header points to a table that is whole.
  const auto blocks = cache_.take_dirty();
  for (const auto& copy : blocks)
    if (error == 0) error = file_.write_bytes(copy.offset, copy.bytes);
  cache_.settle(blocks, error == 0);
  if (error != 0) return error;
  std::vector<std::byte> raw(clusters * cluster_size_);
  for (size_t i = 0; i < table_.size(); ++i) store_big(&raw[8 * i], table_[i]);
  error = file_.write_bytes(offset, raw);
  if (error == 0) error = file_.flush();
  std::byte field[12];
  store_big(field, offset);
  store_big(field + 8, static_cast<uint32_t>(clusters));
  if (error == 0) error = file_.write_bytes(48, field);
  if (error == 0) error = file_.flush();
  if (error != 0) return error;
  header_.refcount_table_offset = offset;
  header_.refcount_table_clusters = static_cast<uint32_t>(clusters);
  dirty_table_.clear();
  return 0;
}

std::vector<SliceCache::Copy> Refcounts::take_dirty_table() {
  std::vector<SliceCache::Copy> copies;
  for (const uint64_t index : std::exchange(dirty_table_, {})) {
    copies.push_back({header_.refcount_table_offset + 8 * index, std::vector<std::byte>(8)});
    store_big(copies.back().bytes.data(), table_[index]);
  }
  return copies;
}

void Refcounts::table_not_written(const std::vector<SliceCache::Copy>& copies) {
  for (const auto& copy : copies)
    if (copy.offset >= header_.refcount_table_offset)
      dirty_table_.insert((copy.offset - header_.refcount_table_offset) / 8);
}

}  // namespace limen::block::qcow2
