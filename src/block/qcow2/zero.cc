// Discarding, writing zeroes, and forgetting.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "block/buffers.h"
#include "block/qcow2/image.h"

namespace limen::block::qcow2 {
namespace {

constexpr uint64_t kAllZero = uint64_t{UINT32_MAX} << 32;
constexpr uint64_t kClustersAtOnce = 1024;
constexpr uint64_t kZeroPiece = uint64_t{1} << 20;

}  // namespace

int Image::discard(uint64_t offset, uint64_t length) {
  if (const int error = begin_write(); error != 0) return error;
  // Whole clusters only; the disk's last one may be shorter.
  const uint64_t end = offset + length == size_ ? round_up(size_, cluster_size_)
                                                : (offset + length) / cluster_size_ * cluster_size_;
  const uint64_t start = round_up(offset, cluster_size_);
  if (start >= end) return 0;
  // Version 2 has no zero clusters: what is behind would come to light.
  if (header_.version < 3 && backing_ != nullptr) return 0;
  return erase_clusters(start, end - start, Erase::kDiscard);
}

int Image::forget(uint64_t offset, uint64_t length) {
  if (const int error = begin_write(); error != 0) return error;
  if (offset % cluster_size_ != 0) return EINVAL;
  return erase_clusters(offset, round_up(length, cluster_size_), Erase::kForget);
}

int Image::write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) {
  if (const int error = begin_write(); error != 0) return error;
  if (header_.version < 3 && (backing_ != nullptr || !may_unmap))
    return write_zero_bytes(offset, length);
  const uint64_t disk_end = size_;
  const uint64_t end = offset + length;
  const uint64_t body = std::min(round_up(offset, cluster_size_), end);
  const uint64_t body_end =
      end == disk_end ? round_up(end, cluster_size_) : std::max(body, end / cluster_size_ * cluster_size_);
  if (body > offset)
    if (const int error = zero_subclusters(offset, body - offset); error != 0) return error;
  if (body_end > body && body < end) {
    const auto how = header_.version < 3 ? Erase::kForget
                     : may_unmap         ? Erase::kZeroUnmap
                                         : Erase::kZeroKeep;
    if (const int error = erase_clusters(body, body_end - body, how); error != 0) return error;
  }
  if (body_end < end) return zero_subclusters(body_end, end - body_end);
  return 0;
}

int Image::erase_clusters(uint64_t offset, uint64_t length, Erase how) {
  const uint64_t end = offset + length;
  while (offset < end) {
    const uint64_t part_end = std::min(end, offset + kClustersAtOnce * cluster_size_);
    {
      const auto range = ranges_.hold(offset / cluster_size_, (part_end - 1) / cluster_size_, true);
      if (header_.has_data_file() && how != Erase::kForget) {
        const uint64_t inside = std::min(part_end, size_.load()) - offset;
        // What reads the file as a raw image sees zeroes, too.
        const int error = header_.raw_data_file() || how == Erase::kZeroKeep
                              ? data_.write_zeroes(offset, inside, how != Erase::kZeroKeep)
                              : data_.discard(offset, inside);
        if (error != 0) return error;
      }
      const int error = growing([&] {
        const std::lock_guard lock(metadata_);
        for (uint64_t at = offset; at < part_end; at += cluster_size_)
          if (const int failed = erase_cluster(at, how); failed != 0) return failed;
        return 0;
      });
      if (error != 0) return error;
    }
    offset = part_end;
    // Where there is no L2 table there is nothing to erase, but for a backing layer to hide.
    if (backing_ == nullptr || how == Erase::kForget) {
      const std::lock_guard lock(metadata_);
      const uint64_t coverage = header_.l2_coverage();
      while (offset < end && offset / coverage < l1_.size() &&
             (l1_[offset / coverage] & kOffsetMask) == 0)
        offset = (offset / coverage + 1) * coverage;
    }
    if (const int error = relieve(); error != 0) return error;
  }
  return 0;
}

int Image::erase_cluster(uint64_t guest, Erase how) {
  L2Entry old;
  if (const int error = load_entry(guest, old); error != 0) return error;
  const bool untouched = old == L2Entry{};
  if (untouched && (how == Erase::kForget || backing_ == nullptr)) return 0;
  L2Entry fresh;
  if (how != Erase::kForget && header_.version >= 3) {
    if (header_.extended())
      fresh.bitmap = kAllZero;
    else
      fresh.entry = kZeroEntry;
    const bool keeps = how == Erase::kZeroKeep || header_.raw_data_file();
    if (keeps && has_host(old) && (old.entry & kCopied) != 0)
      fresh.entry |= old.entry & (kOffsetMask | kCopied);
  }
  if (fresh == old) return 0;
  if (const int error = make_table_writable(guest); error != 0) return error;
  if (const int error = store_entry(guest, fresh); error != 0) return error;
  if (!has_host(fresh)) free_entry(old, true);
  return 0;
}

int Image::zero_subclusters(uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  const uint64_t from = round_up(offset, subcluster_size_);
  const uint64_t to = end / subcluster_size_ * subcluster_size_;
  if (!header_.extended() || from >= to) return write_zero_bytes(offset, length);
  if (from > offset)
    if (const int error = write_zero_bytes(offset, from - offset); error != 0) return error;
  {
    const auto range = ranges_.hold(from / cluster_size_, from / cluster_size_, true);
    if (header_.raw_data_file())
      if (const int error = data_.write_zeroes(from, to - from, true); error != 0) return error;
    bool compressed = false;
    const int error = growing([&] {
      const std::lock_guard lock(metadata_);
      L2Entry entry;
      if (const int failed = load_entry(from, entry); failed != 0) return failed;
      compressed = is_compressed(entry);
      if (compressed) return 0;
      if (const int failed = make_table_writable(from); failed != 0) return failed;
      for (uint64_t at = from; at < to; at += subcluster_size_) {
        entry.bitmap |= uint64_t{1} << (32 + subcluster_of(at));
        entry.bitmap &= ~(uint64_t{1} << subcluster_of(at));
      }
      return store_entry(from, entry);
    });
    if (error != 0) return error;
    if (!compressed) {
      offset = to;
      length = end - to;
    }
  }
  return write_zero_bytes(offset, length);
}

int Image::write_zero_bytes(uint64_t offset, uint64_t length) {
  const auto zeroes = aligned_memory(std::min(length, kZeroPiece));
  if (zeroes == nullptr) return ENOMEM;
  std::memset(zeroes.get(), 0, static_cast<size_t>(std::min(length, kZeroPiece)));
  const uint64_t end = offset + length;
  while (offset < end) {
    auto found = extent(offset, std::min(end - offset, kZeroPiece));
    if (!found) return found.error().system_errno != 0 ? found.error().system_errno : EIO;
    if (!found->zero) {
      const iovec buffer = {zeroes.get(), static_cast<size_t>(found->length)};
      if (const int error = write(offset, {&buffer, 1}); error != 0) return error;
    }
    offset += found->length;
  }
  return 0;
}

}  // namespace limen::block::qcow2
