#include <cerrno>

#include "block/buffers.h"
#include "block/qcow2/compression.h"
#include "block/qcow2/image.h"

namespace limen::block::qcow2 {

int Image::read(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_size(buffers);
  if (length == 0) return 0;
  const auto range = ranges_.hold(offset / cluster_size_, (offset + length - 1) / cluster_size_, false);
  return read_locked(offset, buffers);
}

int Image::read_locked(uint64_t offset, std::span<const iovec> buffers) {
  const uint64_t length = total_size(buffers);
  for (uint64_t done = 0; done < length;) {
    Run run;
    {
      const std::lock_guard lock(metadata_);
      if (const int error = find_run(offset + done, length - done, run); error != 0) return error;
    }
    const auto part = slice(buffers, done, run.length);
    int error = 0;
    switch (run.kind) {
      case Kind::kUnallocated:
        error = read_or_zero(backing_.get(), offset + done, part);
        break;
      case Kind::kZero:
        fill_zero(part, 0, run.length);
        break;
      case Kind::kData:
        error = data_.read(run.host_offset, part);
        break;
      case Kind::kCompressed:
        error = read_part_of_compressed(run.entry, (offset + done) % cluster_size_, part);
        break;
    }
    if (error != 0) return error;
    done += run.length;
  }
  return 0;
}

int Image::read_compressed(const L2Entry& entry, std::span<std::byte> cluster) {
  std::vector<std::byte> packed(compressed_size(entry));
  if (const int error = file_->read_bytes(compressed_offset(entry), packed); error != 0)
    return error;
  return unpack(header_.compression, packed, cluster) ? 0 : EIO;
}

int Image::read_part_of_compressed(const L2Entry& entry, uint64_t within,
                                   std::span<const iovec> buffers) {
  // Guests read clusters bit by bit: the one that was unpacked last is kept.
  const std::lock_guard lock(decompressed_mutex_);
  if (decompressed_entry_ != entry.entry) {
    decompressed_.resize(cluster_size_);
    decompressed_entry_ = 0;
    if (const int error = read_compressed(entry, decompressed_); error != 0) return error;
    decompressed_entry_ = entry.entry;
  }
  copy_in(buffers, 0,
          std::span(decompressed_)
              .subspan(static_cast<size_t>(within), static_cast<size_t>(total_size(buffers))));
  return 0;
}

Result<Extent> Image::extent(uint64_t offset, uint64_t length) {
  Run run;
  {
    const auto range = ranges_.hold(offset / cluster_size_, (offset + length - 1) / cluster_size_, false);
    const std::lock_guard lock(metadata_);
    if (const int error = find_run(offset, length, run); error != 0)
      return fail_errno(error, fmt::format("reading how image '{}' stores offset {}", path(), offset));
  }
  Extent found{.length = run.length};
  switch (run.kind) {
    case Kind::kUnallocated:
      found.zero = backing_ == nullptr;
      break;
    case Kind::kZero:
      found.present = found.zero = true;
      break;
    case Kind::kData:
      found.present = found.data = true;
      break;
    case Kind::kCompressed:
      found.present = found.data = found.compressed = true;
      break;
  }
  if (run.host) found.host_offset = run.host_offset;
  return found;
}

}  // namespace limen::block::qcow2
