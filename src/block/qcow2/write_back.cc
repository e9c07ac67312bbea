// From memory to the disk, in the order that leaves a whole image at each moment.
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "block/qcow2/image.h"

namespace limen::block::qcow2 {
namespace {

/// So many clusters may wait for their release before someone writes.
constexpr size_t kMostFrees = 4096;

int write_copies(FileLayer& file, const std::vector<SliceCache::Copy>& copies) {
  for (const auto& copy : copies)
    if (const int error = file.write_bytes(copy.offset, copy.bytes); error != 0) return error;
  return 0;
}

}  // namespace

int Image::flush() {
  if (options_.read_only) return 0;
  return write_back(false);
}

int Image::relieve() {
  {
    const std::lock_guard lock(metadata_);
    if (!l2_cache_.crowded() && !refcounts_.cache().crowded() && frees_.size() < kMostFrees)
      return 0;
  }
  return write_back(false);
}

int Image::write_back(bool last) {
  // One that begins from now on has everything that was done before.
  const uint64_t enough = write_backs_begun_ + 1;
  const std::lock_guard order(write_back_mutex_);
  if (!last && write_backs_done_ >= enough) return 0;
  const uint64_t number = ++write_backs_begun_;

  std::vector<SliceCache::Copy> refcounts, table, entries, l1;
  std::vector<Free> frees;
  {
    const std::lock_guard lock(metadata_);
    // With lazy refcounts those on the disk may be wrong: the dirty bit says so.
    if (last || !marked_dirty_ || refcounts_.cache().crowded())
      refcounts = refcounts_.cache().take_dirty();
    table = refcounts_.take_dirty_table();
    // A new block must be there before the table points to it.
    if (!table.empty() && refcounts.empty()) refcounts = refcounts_.cache().take_dirty();
    entries = l2_cache_.take_dirty();
    for (const uint64_t index : std::exchange(dirty_l1_, {})) {
      l1.push_back({header_.l1_offset + 8 * index, std::vector<std::byte>(8)});
      store_big(l1.back().bytes.data(), l1_[index]);
    }
    frees = std::exchange(frees_, {});
  }
  int error = write_copies(*file_, refcounts);
  if (!table.empty()) {
    if (error == 0) error = file_->flush();
    if (error == 0) error = write_copies(*file_, table);
  }
  if (!entries.empty() || !l1.empty()) {
    // Data, new tables and refcounts before what points to them.
    if (error == 0) error = file_->flush();
    if (error == 0 && header_.has_data_file()) error = data_.flush();
    if (error == 0) error = write_copies(*file_, entries);
  }
  if (!l1.empty()) {
    if (error == 0 && !entries.empty()) error = file_->flush();
    if (error == 0) error = write_copies(*file_, l1);
  }
  if (error == 0) error = file_->flush();
  if (error == 0 && header_.has_data_file()) error = data_.flush();
  {
    const std::lock_guard lock(metadata_);
    refcounts_.cache().settle(refcounts, error == 0);
    l2_cache_.settle(entries, error == 0);
    if (error != 0) {
      refcounts_.table_not_written(table);
      for (const auto& copy : l1) dirty_l1_.insert((copy.offset - header_.l1_offset) / 8);
      frees_.insert(frees_.end(), frees.begin(), frees.end());
      return error;
    }
  }
  write_backs_done_ = number;
  return settle_frees(frees);
}

int Image::settle_frees(const std::vector<Free>& frees) {
  const std::lock_guard lock(metadata_);
  int error = 0;
  uint64_t hole = 0, hole_size = 0;
  const auto punch = [&] {
    // Only room is at stake.
    if (hole_size != 0)
      std::ignore = file_->discard(hole * cluster_size_, hole_size * cluster_size_);
    hole_size = 0;
  };
  for (const auto& free : frees) {
    const auto freed = [&](uint64_t cluster) {
      if (!free.discard || !options_.discard_unmap) return;
      if (hole_size != 0 && hole + hole_size != cluster) punch();
      if (hole_size == 0) hole = cluster;
      ++hole_size;
    };
    if (const int failed = refcounts_.release(free.cluster, free.count, freed); failed != 0)
      error = failed;
  }
  punch();
  return error;
}

int Image::grow_refcount_table() {
  const std::lock_guard order(write_back_mutex_);
  const std::lock_guard lock(metadata_);
  return refcounts_.grow_table();
}

int Image::write_features() {
  std::byte field[8];
  store_big(field, header_.incompatible);
  if (const int error = file_->write_bytes(72, field); error != 0) return error;
  return file_->flush();
}

int Image::mark_corrupt(const std::string& message) {
  if (options_.check_only) return EIO;
  if (broken_.exchange(true)) return EIO;
  if (options_.read_only) {
    log::error(
        "qcow2: Image '{}' is corrupt: {}; further non-fatal corruption events will be suppressed",
        path(), message);
    return EIO;
  }
  log::error(
      "qcow2: Marking image '{}' as corrupt: {}; further corruption events will be suppressed",
      path(), message);
  if (header_.version >= 3) {
    header_.incompatible |= kCorrupt;
    std::ignore = write_features();
  }
  return EIO;
}

Result<> Image::close() {
  if (std::exchange(closed_, true) || options_.read_only || options_.check_only) return {};
  int error = write_back(true);
  // The releases of what the first one made unused; these may only go after it.
  if (error == 0) error = write_back(true);
  if (error == 0 && !broken_ && dirty()) {
    header_.incompatible &= ~kDirty;
    error = write_features();
  }
  if (error != 0) return fail_errno(error, fmt::format("closing image '{}'", path()));
  return {};
}

}  // namespace limen::block::qcow2
