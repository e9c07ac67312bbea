#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "block/buffers.h"
#include "block/qcow2/compression.h"
#include "block/qcow2/image.h"

namespace limen::block::qcow2 {
namespace {

/// Written in one go: bounds what a request holds locked and in memory.
constexpr uint64_t kLargestPart = uint64_t{16} << 20;

uint32_t bits_between(unsigned first, unsigned last) {
  return static_cast<uint32_t>(((uint64_t{2} << last) - 1) & ~((uint64_t{1} << first) - 1));
}

}  // namespace

int Image::begin_write() {
  if (options_.read_only || snapshot_shown_) return EROFS;
  if (broken_) return EIO;
  if (!header_.lazy_refcounts()) return 0;
  const std::lock_guard lock(metadata_);
  if (marked_dirty_) return 0;
  // Before the first refcount that may be wrong on the disk.
  header_.incompatible |= kDirty;
  if (const int error = write_features(); error != 0) return error;
  marked_dirty_ = true;
  return 0;
}

int Image::write(uint64_t offset, std::span<const iovec> buffers) {
  if (const int error = begin_write(); error != 0) return error;
  const uint64_t length = total_size(buffers);
  for (uint64_t done = 0; done < length;) {
    const uint64_t at = offset + done;
    const uint64_t step = std::min(length - done, kLargestPart - at % cluster_size_);
    const auto part = slice(buffers, done, step);
    const uint64_t first = at / cluster_size_, last = (at + step - 1) / cluster_size_;
    bool in_place = false;
    int error = 0;
    {
      const auto range = ranges_.hold(first, last, false);
      error = write_in_place(at, part, in_place);
    }
    if (error == 0 && !in_place) {
      const auto range = ranges_.hold(first, last, true);
      error = write_changing(at, part);
    }
    if (error != 0) return error;
    done += step;
  }
  return relieve();
}

int Image::write_in_place(uint64_t offset, std::span<const iovec> buffers, bool& done) {
  struct Piece {
    uint64_t host, length;
  };
  std::vector<Piece> pieces;
  const uint64_t length = total_size(buffers);
  done = false;
  {
    const std::lock_guard lock(metadata_);
    for (uint64_t at = offset; at < offset + length;) {
      L2Entry entry;
      if (const int error = load_entry(at, entry); error != 0) return error;
      const uint64_t within = at % cluster_size_;
      const uint64_t step = std::min(cluster_size_ - within, offset + length - at);
      uint64_t table = 0;
      bool table_copied = false;
      if (const int error = l2_table(at, table, table_copied); error != 0) return error;
      // A shared table's entries may say that a cluster is not shared, and be wrong.
      if (!has_host(entry) || (entry.entry & kCopied) == 0 || !table_copied) return 0;
      for (unsigned i = subcluster_of(at); i <= subcluster_of(at + step - 1); ++i)
        if (kind_of(entry, i) != Kind::kData) return 0;
      const uint64_t host = (entry.entry & kOffsetMask) + within;
      if (!header_.has_data_file()) {
        if (const char* what = metadata_at(host); what != nullptr)
          return mark_corrupt(
              fmt::format("Preventing invalid write on metadata (overlaps with {}): data cluster "
                          "{:#x} of guest cluster {:#x}",
                          what, host - within, at / cluster_size_));
      }
      if (!pieces.empty() && pieces.back().host + pieces.back().length == host)
        pieces.back().length += step;
      else
        pieces.push_back({host, step});
      at += step;
    }
  }
  done = true;
  uint64_t skip = 0;
  for (const auto& piece : pieces) {
    const auto part = slice(buffers, skip, piece.length);
    if (const int error = data_.write(piece.host, part); error != 0) return error;
    skip += piece.length;
  }
  return 0;
}

int Image::write_changing(uint64_t offset, std::span<const iovec> buffers) {
  std::vector<Step> steps;
  int error = growing([&] { return plan_write(offset, total_size(buffers), steps); });
  if (error != 0) return error;
  error = write_steps(steps, offset, buffers);
  if (error != 0) {
    abandon(steps);
    return error;
  }
  return finish_write(steps);
}

int Image::plan_write(uint64_t offset, uint64_t length, std::vector<Step>& steps) {
  steps.clear();
  const std::lock_guard lock(metadata_);
  for (uint64_t at = offset; at < offset + length;) {
    Step step;
    step.first = at % cluster_size_;
    step.last = std::min(cluster_size_, step.first + (offset + length - at));
    step.guest = at - step.first;
    if (const int error = make_table_writable(at); error != 0) return error;
    if (const int error = load_entry(at, step.old); error != 0) return error;
    if (const int error = plan_step(step); error != 0) return error;
    steps.push_back(step);
    at += step.last - step.first;
  }
  return allocate_steps(steps);
}

int Image::plan_step(Step& step) {
  const bool own = has_host(step.old) && (step.old.entry & kCopied) != 0;
  if (own) {
    step.host = step.old.entry & kOffsetMask;
    if (header_.has_data_file()) return 0;
    if (const char* what = metadata_at(step.host); what != nullptr)
      return mark_corrupt(fmt::format("Preventing invalid write on metadata (overlaps with {}): "
                                      "data cluster {:#x} of guest cluster {:#x}",
                                      what, step.host, step.guest / cluster_size_));
  } else if (header_.has_data_file()) {
    // Clusters of an external file are where they are on the disk.
    step.host = step.guest;
  } else {
    step.allocated = true;
  }
  return 0;
}

int Image::allocate_steps(std::vector<Step>& steps) {
  for (size_t i = 0; i < steps.size();) {
    if (!steps[i].allocated) {
      ++i;
      continue;
    }
    size_t wanted = 1;
    while (i + wanted < steps.size() && steps[i + wanted].allocated) ++wanted;
    uint64_t host = 0, count = 0;
    if (const int error = refcounts_.allocate(wanted, host, count); error != 0) {
      for (size_t j = 0; j < i; ++j)
        if (steps[j].allocated) std::ignore = refcounts_.change(steps[j].host / cluster_size_, 1, -1);
      return error;
    }
    for (size_t j = 0; j < count; ++j) steps[i + j].host = host + j * cluster_size_;
    i += count;
  }
  for (auto& step : steps) {
    step.fresh.entry = step.host | kCopied;
    if (header_.extended()) {
      const uint32_t touched = bits_between(static_cast<unsigned>(step.first / subcluster_size_),
                                            static_cast<unsigned>((step.last - 1) / subcluster_size_));
      const uint64_t before = is_compressed(step.old) ? UINT32_MAX : step.old.bitmap;
      step.fresh.bitmap = (before & ~(uint64_t{touched} << 32)) | touched;
    }
    step.changes = step.fresh != step.old;
  }
  return 0;
}

int Image::fill_around(const Step& step) {
  const bool moves = step.allocated || !has_host(step.old);
  const auto reads_zero = [&](unsigned subcluster) {
    const Kind kind = kind_of(step.old, subcluster);
    return kind == Kind::kZero || (kind == Kind::kUnallocated && backing_ == nullptr);
  };
  struct Part {
    uint64_t from, to;
    bool zero;
  };
  std::vector<Part> parts;
  const auto add = [&parts](uint64_t from, uint64_t to, bool zero) {
    if (from >= to) return;
    if (!parts.empty() && parts.back().to == from && parts.back().zero == zero)
      parts.back().to = to;
    else
      parts.push_back({from, to, zero});
  };
  for (unsigned i = 0; i < subclusters(); ++i) {
    const uint64_t from = i * subcluster_size_, to = from + subcluster_size_;
    const Kind kind = kind_of(step.old, i);
    const bool zero = reads_zero(i);
    if (step.first < to && from < step.last) {
      // Overwritten in place: what is around stays.
      if (!moves && kind == Kind::kData) continue;
      add(from, step.first, zero);
      add(step.last, to, zero);
    } else if (moves && (kind == Kind::kData || kind == Kind::kCompressed)) {
      add(from, to, zero);
    }
  }
  const bool zeroes = std::ranges::any_of(parts, &Part::zero);
  if (zeroes && step.allocated) {
    // In one go, where the file system can.
    if (const int error = data_.write_zeroes(step.host, cluster_size_, false); error != 0)
      return error;
  }
  for (const auto& part : parts) {
    int error = 0;
    if (!part.zero)
      error = copy_old(step, part.from, part.to);
    else if (!step.allocated)
      error = data_.write_zeroes(step.host + part.from, part.to - part.from, false);
    if (error != 0) return error;
  }
  return 0;
}

int Image::copy_old(const Step& step, uint64_t from, uint64_t to) {
  const auto memory = aligned_memory(to - from);
  if (memory == nullptr) return ENOMEM;
  const iovec buffer = {memory.get(), static_cast<size_t>(to - from)};
  // The disk may end within its last cluster.
  const uint64_t end = std::min(size_.load(), step.guest + to);
  const uint64_t inside = step.guest + from < end ? end - step.guest - from : 0;
  const auto part = slice({&buffer, 1}, 0, inside);
  if (inside != 0)
    if (const int error = read_locked(step.guest + from, part); error != 0) return error;
  fill_zero({&buffer, 1}, inside, to - from - inside);
  return data_.write(step.host + from, {&buffer, 1});
}

int Image::write_steps(const std::vector<Step>& steps, uint64_t offset,
                       std::span<const iovec> buffers) {
  for (const auto& step : steps)
    if (step.first != 0 || step.last != cluster_size_)
      if (const int error = fill_around(step); error != 0) return error;
  for (size_t i = 0; i < steps.size();) {
    const uint64_t start = steps[i].guest + steps[i].first;
    const uint64_t host = steps[i].host + steps[i].first;
    uint64_t length = steps[i].last - steps[i].first;
    for (++i; i < steps.size() && steps[i].host + steps[i].first == host + length; ++i)
      length += steps[i].last - steps[i].first;
    const auto part = slice(buffers, start - offset, length);
    if (const int error = data_.write(host, part); error != 0) return error;
  }
  return 0;
}

int Image::finish_write(const std::vector<Step>& steps) {
  const std::lock_guard lock(metadata_);
  for (size_t i = 0; i < steps.size(); ++i) {
    const auto& step = steps[i];
    if (!step.changes) continue;
    if (const int error = store_entry(step.guest, step.fresh); error != 0) {
      for (; i < steps.size(); ++i)
        if (steps[i].allocated) frees_.push_back({steps[i].host / cluster_size_, 1, false});
      return error;
    }
    if (step.allocated) free_entry(step.old, false);
  }
  return 0;
}

void Image::abandon(const std::vector<Step>& steps) {
  const std::lock_guard lock(metadata_);
  for (const auto& step : steps)
    if (step.allocated) std::ignore = refcounts_.change(step.host / cluster_size_, 1, -1);
}

void Image::free_entry(const L2Entry& entry, bool discard) {
  if (is_compressed(entry)) {
    const uint64_t first = compressed_offset(entry) / cluster_size_;
    const uint64_t last = (compressed_offset(entry) + compressed_size(entry) - 1) / cluster_size_;
    frees_.push_back({first, last - first + 1, discard});
    const std::lock_guard lock(decompressed_mutex_);
    decompressed_entry_ = 0;
  } else if (has_host(entry) && !header_.has_data_file()) {
    const uint64_t cluster = (entry.entry & kOffsetMask) / cluster_size_;
    if (!frees_.empty() && frees_.back().cluster + frees_.back().count == cluster &&
        frees_.back().discard == discard)
      ++frees_.back().count;
    else
      frees_.push_back({cluster, 1, discard});
  }
}

std::vector<std::byte> Image::pack_cluster(std::span<const std::byte> bytes) const {
  if (bytes.size() == cluster_size_) return pack(header_.compression, bytes);
  std::vector<std::byte> padded(bytes.begin(), bytes.end());
  padded.resize(cluster_size_);
  return pack(header_.compression, padded);
}

int Image::write_packed(uint64_t offset, std::span<const std::byte> packed) {
  if (offset % cluster_size_ != 0 || packed.size() >= cluster_size_ || header_.has_data_file())
    return EINVAL;
  if (const int error = begin_write(); error != 0) return error;
  {
    const auto range = ranges_.hold(offset / cluster_size_, offset / cluster_size_, true);
    uint64_t host = 0;
    int error = growing([&] {
      const std::lock_guard lock(metadata_);
      if (const int failed = make_table_writable(offset); failed != 0) return failed;
      return refcounts_.allocate_bytes(packed.size(), host);
    });
    if (error != 0) return error;
    error = file_->write_bytes(host, packed);
    const std::lock_guard lock(metadata_);
    const unsigned size_shift = 62 - (header_.cluster_bits - 8);
    const uint64_t sectors = (host + packed.size() - 1) / 512 - host / 512;
    const L2Entry fresh{.entry = host | sectors << size_shift | kCompressedEntry};
    L2Entry old;
    if (error == 0) error = load_entry(offset, old);
    if (error == 0) error = store_entry(offset, fresh);
    if (error != 0) {
      frees_.push_back({host / cluster_size_,
                        (host + packed.size() - 1) / cluster_size_ - host / cluster_size_ + 1, false});
      return error;
    }
    free_entry(old, false);
    const std::lock_guard cache_lock(decompressed_mutex_);
    decompressed_entry_ = 0;
  }
  return relieve();
}

}  // namespace limen::block::qcow2
