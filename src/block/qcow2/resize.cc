// Making the disk larger or smaller, and giving it room in advance.
#include <algorithm>
#include <cerrno>

#include "block/buffers.h"
#include "block/qcow2/image.h"

namespace limen::block::qcow2 {
namespace {

constexpr uint64_t kZeroPiece = uint64_t{1} << 20;

}  // namespace

Result<> Image::resize(uint64_t size) {
  const uint64_t old_size = size_;
  if (size == old_size) return {};
  if (header_.version < 3 && !snapshots_.empty())
    return fail("image '{}': can't resize a v2 image which has snapshots", path());
  if (header_.l1_entries_for(size) > kLargestL1 / 8 || size > uint64_t{INT64_MAX} - cluster_size_)
    return fail("image '{}': a size of {} bytes is too large for its cluster size of {}", path(), size,
                cluster_size_);
  const auto failed = [this](int error) {
    return fail_errno(error, fmt::format("resizing image '{}'", path()));
  };
  if (const int error = begin_write(); error != 0) return failed(error);
  if (size < old_size) {
    const uint64_t from = round_up(size, cluster_size_);
    const uint64_t to = round_up(old_size, cluster_size_);
    if (from < to)
      if (const int error = erase_clusters(from, to - from, Erase::kForget); error != 0)
        return failed(error);
  }
  if (const int error = write_back(true); error != 0) return failed(error);
  auto l1 = l1_;
  l1.resize(std::max<size_t>(l1.size(), header_.l1_entries_for(size)));
  LIMEN_TRY(replace_l1(std::move(l1), size));
  if (header_.raw_data_file())
    if (const int error = data_.truncate(size); error != 0) return failed(error);
  if (size > old_size) {
    // What the last cluster has behind the old end, and what the backing layer has there.
    uint64_t to = std::min(size, round_up(old_size, cluster_size_));
    if (backing_ != nullptr) to = std::max(to, std::min(size, backing_->size()));
    if (to > old_size)
      if (const int error = write_zeroes(old_size, to - old_size, true); error != 0)
        return failed(error);
  }
  if (const int error = write_back(true); error != 0) return failed(error);
  return {};
}

Result<> Image::preallocate(uint64_t offset, bool take_room, bool write) {
  const auto failed = [this](int error) {
    return fail_errno(error, fmt::format("preallocating image '{}'", path()));
  };
  if (const int error = begin_write(); error != 0) return failed(error);
  const bool own_data = !header_.has_data_file();
  const auto zeroes = aligned_memory(kZeroPiece);
  if (zeroes == nullptr) return failed(ENOMEM);
  std::fill_n(zeroes.get(), kZeroPiece, std::byte{0});
  const uint64_t end = round_up(size_, cluster_size_);
  offset = round_up(offset, cluster_size_);
  while (offset < end) {
    const uint64_t table_end = (offset / header_.l2_coverage() + 1) * header_.l2_coverage();
    const uint64_t wanted = (std::min(end, table_end) - offset) / cluster_size_;
    uint64_t host = offset, count = wanted;
    int error = growing([&] {
      const std::lock_guard lock(metadata_);
      if (const int failure = make_table_writable(offset); failure != 0) return failure;
      return own_data ? refcounts_.allocate(wanted, host, count) : 0;
    });
    if (error != 0) return failed(error);
    const uint64_t bytes = count * cluster_size_;
    const uint64_t file_end = data_.file_size();
    if (write) {
      for (uint64_t done = 0; done < bytes && error == 0; done += kZeroPiece) {
        const iovec buffer = {zeroes.get(), static_cast<size_t>(std::min(kZeroPiece, bytes - done))};
        error = data_.write(host + done, {&buffer, 1});
      }
    } else if (take_room) {
      error = data_.write_zeroes(host, bytes, false);
    } else if (host < file_end && own_data) {
      error = data_.write_zeroes(host, std::min(bytes, file_end - host), true);
    }
    const uint64_t need = own_data ? host + bytes : std::min(host + bytes, size_.load());
    if (error == 0 && need > data_.file_size()) error = data_.truncate(need);
    const std::lock_guard lock(metadata_);
    for (uint64_t i = 0; i < count && error == 0; ++i) {
      L2Entry entry{.entry = (host + i * cluster_size_) | kCopied};
      if (header_.extended() && backing_ == nullptr && header_.backing_file.empty())
        entry.bitmap = UINT32_MAX;
      error = store_entry(offset + i * cluster_size_, entry);
    }
    if (error != 0) return failed(error);
    offset += bytes;
  }
  if (const int error = write_back(true); error != 0) return failed(error);
  return {};
}

Result<> Image::make_empty() {
  if (const int error = forget(0, size_); error != 0)
    return fail_errno(error, fmt::format("emptying image '{}'", path()));
  if (const int error = write_back(true); error != 0)
    return fail_errno(error, fmt::format("emptying image '{}'", path()));
  return {};
}

}  // namespace limen::block::qcow2
