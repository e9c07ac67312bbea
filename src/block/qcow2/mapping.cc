// Where a cluster of the disk is in the file: L1 and L2 tables.
#include <cerrno>

#include "block/qcow2/image.h"

namespace limen::block::qcow2 {

int Image::l2_table(uint64_t guest, uint64_t& offset, bool& copied) {
  const uint64_t index = guest / header_.l2_coverage();
  offset = 0;
  copied = false;
  if (index >= l1_.size()) return 0;
  offset = l1_[index] & kOffsetMask;
  copied = (l1_[index] & kCopied) != 0;
  if (offset == 0) return 0;
  if (offset % cluster_size_ != 0)
    return mark_corrupt(
        fmt::format("L2 table offset {:#x} unaligned (L1 index: {:#x})", offset, index));
  if (offset >= known_file_size_) {
    known_file_size_ = file_->file_size();
    if (offset >= known_file_size_)
      return mark_corrupt(fmt::format("L2 table offset {:#x} is beyond the end of the file (L1 index: {:#x})",
                                      offset, index));
  }
  return 0;
}

int Image::load_entry(uint64_t guest, L2Entry& entry) {
  uint64_t table = 0;
  bool copied = false;
  entry = {};
  if (const int error = l2_table(guest, table, copied); error != 0 || table == 0) return error;
  const uint64_t at = guest / cluster_size_ % header_.l2_entries() * header_.l2_entry_size();
  int error = 0;
  const auto* slice = l2_cache_.get(table + at / slice_size_ * slice_size_, error);
  if (slice == nullptr) return error;
  const std::byte* const bytes = slice->bytes.get() + at % slice_size_;
  entry.entry = load_big<uint64_t>(bytes);
  if (header_.extended()) entry.bitmap = load_big<uint64_t>(bytes + 8);
  return check_entry(guest, entry);
}

int Image::store_entry(uint64_t guest, const L2Entry& entry) {
  uint64_t table = 0;
  bool copied = false;
  if (const int error = l2_table(guest, table, copied); error != 0) return error;
  if (table == 0 || !copied) return EIO;
  const uint64_t at = guest / cluster_size_ % header_.l2_entries() * header_.l2_entry_size();
  int error = 0;
  auto* slice = l2_cache_.get(table + at / slice_size_ * slice_size_, error);
  if (slice == nullptr) return error;
  std::byte* const bytes = slice->bytes.get() + at % slice_size_;
  store_big(bytes, entry.entry);
  if (header_.extended()) store_big(bytes + 8, entry.bitmap);
  l2_cache_.mark_dirty(*slice);
  return 0;
}

int Image::make_table_writable(uint64_t guest) {
  uint64_t old = 0;
  bool copied = false;
  if (const int error = l2_table(guest, old, copied); error != 0) return error;
  if (old != 0 && copied) {
    if (const char* what = metadata_at(old);
        what != nullptr && !l2_clusters_.contains(old / cluster_size_))
      return mark_corrupt(fmt::format("Preventing invalid write on metadata (overlaps with {})", what));
    return 0;
  }
  const uint64_t index = guest / header_.l2_coverage();
  if (index >= l1_.size()) return EIO;
  uint64_t fresh = 0, count = 0;
  if (const int error = refcounts_.allocate(1, fresh, count); error != 0) return error;
  // Nothing points to it yet: it can be written at once.
  int error = 0;
  if (old == 0) {
    error = file_->write_zeroes(fresh, cluster_size_, false);
  } else {
    for (uint64_t at = 0; at < cluster_size_ && error == 0; at += slice_size_) {
      const auto* slice = l2_cache_.get(old + at, error);
      if (slice != nullptr)
        error = file_->write_bytes(fresh + at, {slice->bytes.get(), static_cast<size_t>(slice_size_)});
    }
  }
  if (error != 0) {
    std::ignore = refcounts_.change(fresh / cluster_size_, 1, -1);
    return error;
  }
  l1_[index] = fresh | kCopied;
  dirty_l1_.insert(index);
  l2_clusters_.insert(fresh / cluster_size_);
  if (old != 0) {
    l2_clusters_.erase(old / cluster_size_);
    frees_.push_back({old / cluster_size_, 1, false});
  }
  return 0;
}

int Image::check_entry(uint64_t guest, const L2Entry& entry) {
  const auto where = [&] {
    uint64_t table = 0;
    bool copied = false;
    std::ignore = l2_table(guest, table, copied);
    return fmt::format("guest cluster {:#x}, L2 offset: {:#x}, L2 index: {:#x}", guest / cluster_size_,
                       table, guest / cluster_size_ % header_.l2_entries());
  };
  if (is_compressed(entry)) {
    if (header_.extended() && entry.bitmap != 0)
      return mark_corrupt(fmt::format("Compressed cluster with subclusters ({})", where()));
    if (header_.has_data_file())
      return mark_corrupt(fmt::format("Compressed cluster in an external data file ({})", where()));
    return 0;
  }
  const uint64_t host = entry.entry & kOffsetMask;
  if (header_.extended() && ((entry.bitmap >> 32) & entry.bitmap & UINT32_MAX) != 0)
    return mark_corrupt(fmt::format("Invalid subcluster bitmap {:#x} ({})", entry.bitmap, where()));
  const bool data = header_.extended() ? (entry.bitmap & UINT32_MAX) != 0
                                       : kind_of(entry, 0) == Kind::kData;
  if (!has_host(entry)) {
    if (header_.extended() && data)
      return mark_corrupt(fmt::format("Allocated subclusters without a cluster ({})", where()));
    return 0;
  }
  if (host % cluster_size_ != 0)
    return mark_corrupt(fmt::format("{} offset {:#x} unaligned ({})",
                                    data ? "Cluster allocation" : "Preallocated zero cluster", host,
                                    where()));
  if (header_.has_data_file()) {
    if (header_.raw_data_file() && host != guest / cluster_size_ * cluster_size_)
      return mark_corrupt(fmt::format("External data file host cluster offset {:#x} does not match guest cluster ({})",
                                      host, where()));
    return 0;
  }
  if (data && host >= known_file_size_) {
    known_file_size_ = file_->file_size();
    if (host >= known_file_size_)
      return mark_corrupt(
          fmt::format("Cluster offset {:#x} is beyond the end of the file ({})", host, where()));
  }
  return 0;
}

bool Image::has_host(const L2Entry& entry) const {
  if (is_compressed(entry)) return false;
  // Offset 0 is a place in an external data file only.
  return (entry.entry & kOffsetMask) != 0 ||
         (header_.has_data_file() && (entry.entry & kCopied) != 0);
}

Kind Image::kind_of(const L2Entry& entry, unsigned subcluster) const {
  if (is_compressed(entry)) return Kind::kCompressed;
  if (header_.extended()) {
    if ((entry.bitmap >> (32 + subcluster) & 1) != 0) return Kind::kZero;
    return (entry.bitmap >> subcluster & 1) != 0 ? Kind::kData : Kind::kUnallocated;
  }
  if ((entry.entry & kZeroEntry) != 0 && header_.version >= 3) return Kind::kZero;
  return has_host(entry) ? Kind::kData : Kind::kUnallocated;
}

uint64_t Image::compressed_offset(const L2Entry& entry) const {
  const unsigned size_shift = 62 - (header_.cluster_bits - 8);
  return entry.entry & ((uint64_t{1} << size_shift) - 1);
}

uint64_t Image::compressed_size(const L2Entry& entry) const {
  const unsigned size_shift = 62 - (header_.cluster_bits - 8);
  const uint64_t sectors =
      (entry.entry >> size_shift & ((uint64_t{1} << (header_.cluster_bits - 8)) - 1)) + 1;
  return sectors * 512 - (compressed_offset(entry) & 511);
}

int Image::find_run(uint64_t guest, uint64_t length, Run& run) {
  run = {};
  uint64_t at = guest;
  const uint64_t end = guest + length;
  while (at < end) {
    L2Entry entry;
    if (const int error = load_entry(at, entry); error != 0) return error;
    const uint64_t within = at % cluster_size_;
    const uint64_t host = (entry.entry & kOffsetMask) + within;
    const Kind kind = kind_of(entry, subcluster_of(at));
    const bool placed = has_host(entry) && (kind == Kind::kData || kind == Kind::kZero);
    if (run.length == 0) {
      run.kind = kind;
      run.host = placed;
      run.host_offset = host;
      run.entry = entry;
    } else if (kind != run.kind || kind == Kind::kCompressed || placed != run.host ||
               (placed && host != run.host_offset + run.length)) {
      break;
    }
    // All subclusters of the kind, or all of an L1 entry that points nowhere.
    uint64_t step = cluster_size_ - within;
    if (header_.extended() && kind != Kind::kCompressed) {
      uint64_t covered = subcluster_size_ - at % subcluster_size_;
      while (covered < step && kind_of(entry, subcluster_of(at + covered)) == kind)
        covered += subcluster_size_;
      step = covered;
    }
    if (const uint64_t index = at / header_.l2_coverage();
        index < l1_.size() && (l1_[index] & kOffsetMask) == 0)
      step = header_.l2_coverage() - at % header_.l2_coverage();
    step = std::min(step, end - at);
    run.length += step;
    at += step;
  }
  return 0;
}

const char* Image::metadata_at(uint64_t offset) const {
  const uint64_t cluster = offset / cluster_size_;
  const auto within = [&](uint64_t start, uint64_t bytes) {
    return offset / cluster_size_ >= start / cluster_size_ &&
           offset < start + round_up(bytes, cluster_size_);
  };
  if (cluster == 0) return "qcow2_header";
  if (header_.l1_size != 0 && within(header_.l1_offset, uint64_t{header_.l1_size} * 8))
    return "active L1 table";
  if (refcounts_.is_table(cluster)) return "refcount table";
  if (refcounts_.is_block(cluster)) return "refcount block";
  if (l2_clusters_.contains(cluster)) return "active L2 table";
  if (header_.snapshot_count != 0 && within(header_.snapshots_offset, snapshots_bytes_))
    return "snapshot table";
  return nullptr;
}

}  // namespace limen::block::qcow2
