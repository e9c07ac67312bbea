// Internal snapshots. While many refcounts change, the dirty bit (version 3) says so: whoever opens
// the image after a crash counts again.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "block/qcow2/check.h"
#include "block/qcow2/image.h"

namespace limen::block::qcow2 {

Result<size_t> Image::find_snapshot(const std::string& name) const {
  // An ID goes before a name.
  for (const auto member : {&Snapshot::id, &Snapshot::name})
    for (size_t i = 0; i < snapshots_.size(); ++i)
      if (snapshots_[i].*member == name) return i;
  return fail("image '{}' has no snapshot '{}'", path(), name);
}

Result<> Image::begin_rearranging() {
  int error = begin_write();
  if (error == 0) error = write_back(true);
  if (error == 0) error = write_back(true);
  if (error == 0 && header_.version >= 3 && !dirty()) {
    header_.incompatible |= kDirty;
    error = write_features();
  }
  if (error != 0) return fail_errno(error, fmt::format("writing image '{}'", path()));
  l2_cache_.clear();
  return {};
}

Result<> Image::end_rearranging() {
  int error = write_back(true);
  if (error == 0) error = write_back(true);
  if (error == 0 && dirty()) {
    header_.incompatible &= ~kDirty;
    marked_dirty_ = false;
    error = write_features();
  }
  if (error != 0) return fail_errno(error, fmt::format("writing image '{}'", path()));
  return load_l1();
}

Result<uint64_t> Image::store_table(std::span<const std::byte> bytes) {
  const uint64_t clusters = std::max<uint64_t>(divide_up(bytes.size(), cluster_size_), 1);
  uint64_t offset = 0;
  int error = growing([&] {
    const std::lock_guard lock(metadata_);
    return refcounts_.allocate_run(clusters, offset);
  });
  std::vector<std::byte> padded(bytes.begin(), bytes.end());
  padded.resize(clusters * cluster_size_);
  if (error == 0) error = file_->write_bytes(offset, padded);
  // The refcounts too: what points to the table is written next.
  if (error == 0) error = write_back(true);
  if (error != 0) return fail_errno(error, fmt::format("writing a table of image '{}'", path()));
  return offset;
}

Result<> Image::count_references(std::vector<uint64_t>& l1, int delta, bool active) {
  const auto failed = [this](int error) {
    return fail_errno(error, fmt::format("changing refcounts of image '{}'", path()));
  };
  std::vector<std::byte> raw(cluster_size_);
  const auto change = [&](uint64_t cluster, uint64_t count) {
    return delta == 0 ? 0 : refcounts_.change(cluster, count, delta);
  };
  for (auto& l1_entry : l1) {
    const uint64_t table = l1_entry & kOffsetMask;
    if (table == 0) continue;
    if (table % cluster_size_ != 0)
      return fail("image '{}': L2 table offset {:#x} unaligned", path(), table);
    if (const int error = file_->read_bytes(table, raw); error != 0) return failed(error);
    bool changed = false;
    for (uint64_t i = 0; i < header_.l2_entries(); ++i) {
      std::byte* const at = &raw[i * header_.l2_entry_size()];
      const L2Entry entry{.entry = load_big<uint64_t>(at)};
      if (is_compressed(entry)) {
        const uint64_t first = compressed_offset(entry) / cluster_size_;
        const uint64_t last = (compressed_offset(entry) + compressed_size(entry) - 1) / cluster_size_;
        if (const int error = change(first, last - first + 1); error != 0) return failed(error);
      } else if (has_host(entry)) {
        const uint64_t cluster = (entry.entry & kOffsetMask) / cluster_size_;
        if (const int error = change(cluster, 1); error != 0) return failed(error);
        uint64_t refcount = 0;
        if (const int error = refcounts_.get(cluster, refcount); error != 0) return failed(error);
        const uint64_t fresh = (entry.entry & ~kCopied) | (refcount == 1 ? kCopied : 0);
        if (active && fresh != entry.entry) {
          store_big(at, fresh);
          changed = true;
        }
      }
    }
    if (changed)
      if (const int error = file_->write_bytes(table, raw); error != 0) return failed(error);
    if (const int error = change(table / cluster_size_, 1); error != 0) return failed(error);
    uint64_t refcount = 0;
    if (const int error = refcounts_.get(table / cluster_size_, refcount); error != 0)
      return failed(error);
    if (active) l1_entry = table | (refcount == 1 ? kCopied : 0);
  }
  return {};
}

Result<> Image::store_snapshots(std::vector<Snapshot> snapshots) {
  const uint64_t old_offset = header_.snapshots_offset;
  const uint64_t old_clusters = divide_up(snapshots_bytes_, cluster_size_);
  const auto bytes = serialize_snapshots(snapshots);
  const uint64_t offset = snapshots.empty() ? 0 : LIMEN_TRY(store_table(bytes));
  std::byte field[12];
  store_big(field, static_cast<uint32_t>(snapshots.size()));
  store_big(field + 4, offset);
  int error = file_->write_bytes(60, field);
  if (error == 0) error = file_->flush();
  if (error != 0) return fail_errno(error, fmt::format("writing the header of image '{}'", path()));
  header_.snapshot_count = static_cast<uint32_t>(snapshots.size());
  header_.snapshots_offset = offset;
  snapshots_ = std::move(snapshots);
  snapshots_bytes_ = bytes.size();
  if (old_clusters != 0) frees_.push_back({old_offset / cluster_size_, old_clusters, true});
  return {};
}

Result<> Image::replace_l1(std::vector<uint64_t> l1, uint64_t size) {
  std::vector<std::byte> raw(l1.size() * 8);
  for (size_t i = 0; i < l1.size(); ++i) store_big(&raw[8 * i], l1[i]);
  uint64_t offset = header_.l1_offset;
  const uint64_t old_clusters = divide_up(uint64_t{header_.l1_size} * 8, cluster_size_);
  const bool moves = divide_up(l1.size() * 8, cluster_size_) > std::max<uint64_t>(old_clusters, 1) ||
                     header_.l1_offset == 0;
  int error = 0;
  if (moves) {
    offset = LIMEN_TRY(store_table(raw));
  } else {
    error = file_->write_bytes(offset, raw);
    if (error == 0) error = file_->flush();
  }
  // Size, encryption, L1 size and offset stand side by side: one write of one sector.
  std::byte field[24] = {};
  store_big(field, size);
  store_big(field + 12, static_cast<uint32_t>(l1.size()));
  store_big(field + 16, offset);
  if (error == 0) error = file_->write_bytes(24, field);
  if (error == 0) error = file_->flush();
  if (error != 0) return fail_errno(error, fmt::format("writing the L1 table of image '{}'", path()));
  if (moves && header_.l1_offset != 0)
    frees_.push_back({header_.l1_offset / cluster_size_, std::max<uint64_t>(old_clusters, 1), true});
  header_.size = size;
  size_ = size;
  header_.l1_size = static_cast<uint32_t>(l1.size());
  header_.l1_offset = offset;
  l1_ = std::move(l1);
  dirty_l1_.clear();
  note_metadata();
  return {};
}

Result<> Image::create_snapshot(const std::string& name) {
  if (header_.has_data_file())
    return fail("image '{}' has an external data file: it can have no snapshots", path());
  if (header_.refcount_bits() == 1)
    return fail("image '{}' has refcounts of 1 bit: it can have no snapshots", path());
  if (snapshots_.size() >= kMostSnapshots)
    return fail("image '{}' has {} snapshots: no more are possible", path(), snapshots_.size());
  if (name.size() > UINT16_MAX) return fail("a snapshot's name of {} bytes is too long", name.size());
  LIMEN_TRY(begin_rearranging());
  uint64_t id = 0;
  for (const auto& other : snapshots_) id = std::max<uint64_t>(id, std::strtoull(other.id.c_str(), nullptr, 10));
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  Snapshot snapshot;
  snapshot.id = std::to_string(id + 1);
  snapshot.name = name;
  snapshot.date_seconds = static_cast<uint32_t>(seconds.count());
  snapshot.date_nanoseconds = static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now - seconds).count());
  snapshot.disk_size = size_;
  snapshot.l1_size = header_.l1_size;
  auto l1 = l1_;
  const auto counted = count_references(l1, 1, true);
  if (!counted) {
    // Count again; some went up and some did not.
    LIMEN_TRY(end_rearranging());
    if (const auto mended = repair(*this); !mended) return mended;
    LIMEN_TRY(load_l1());
    return counted;
  }
  std::vector<std::byte> raw(l1.size() * 8);
  for (size_t i = 0; i < l1.size(); ++i) store_big(&raw[8 * i], l1[i]);
  snapshot.l1_offset = LIMEN_TRY(store_table(raw));
  LIMEN_TRY(replace_l1(std::move(l1), size_));
  auto snapshots = snapshots_;
  snapshots.push_back(std::move(snapshot));
  LIMEN_TRY(store_snapshots(std::move(snapshots)));
  return end_rearranging();
}

Result<> Image::apply_snapshot(const std::string& name) {
  const size_t index = LIMEN_TRY(find_snapshot(name));
  const auto snapshot = snapshots_[index];
  if (snapshot.disk_size != size_) LIMEN_TRY(resize(snapshot.disk_size));
  LIMEN_TRY(begin_rearranging());
  auto fresh = LIMEN_TRY(read_l1(snapshot.l1_offset, snapshot.l1_size));
  LIMEN_TRY(count_references(fresh, 1, false));
  fresh.resize(std::max<size_t>(header_.l1_entries_for(size_), l1_.size()));
  for (auto& entry : fresh) entry &= ~kCopied;
  auto old = l1_;
  LIMEN_TRY(replace_l1(fresh, size_));
  LIMEN_TRY(count_references(old, -1, false));
  LIMEN_TRY(count_references(fresh, 0, true));
  LIMEN_TRY(replace_l1(std::move(fresh), size_));
  return end_rearranging();
}

Result<> Image::delete_snapshot(const std::string& name) {
  const size_t index = LIMEN_TRY(find_snapshot(name));
  LIMEN_TRY(begin_rearranging());
  const auto snapshot = snapshots_[index];
  auto rest = snapshots_;
  rest.erase(rest.begin() + static_cast<ptrdiff_t>(index));
  auto gone = LIMEN_TRY(read_l1(snapshot.l1_offset, snapshot.l1_size));
  LIMEN_TRY(store_snapshots(std::move(rest)));
  LIMEN_TRY(count_references(gone, -1, false));
  frees_.push_back({snapshot.l1_offset / cluster_size_,
                    std::max<uint64_t>(divide_up(uint64_t{snapshot.l1_size} * 8, cluster_size_), 1), true});
  auto l1 = l1_;
  LIMEN_TRY(count_references(l1, 0, true));
  LIMEN_TRY(replace_l1(std::move(l1), size_));
  return end_rearranging();
}

Result<> Image::show_snapshot(const std::string& name) {
  const size_t index = LIMEN_TRY(find_snapshot(name));
  const auto& snapshot = snapshots_[index];
  const std::lock_guard lock(metadata_);
  l1_ = LIMEN_TRY(read_l1(snapshot.l1_offset, snapshot.l1_size));
  size_ = snapshot.disk_size;
  snapshot_shown_ = true;
  return {};
}

}  // namespace limen::block::qcow2
