#include "storage/scatter_list.h"

#include <algorithm>

namespace limen::storage {

bool ScatterList::add(const memory::GuestMemory& memory, GuestPhysicalAddress address,
                      uint64_t length) {
  if (length == 0) return true;
  const auto span = memory.span(address, length);
  if (span.empty()) return false;
  if (!buffers_.empty() &&
      static_cast<std::byte*>(buffers_.back().iov_base) + buffers_.back().iov_len == span.data())
    buffers_.back().iov_len += span.size();
  else
    buffers_.push_back({span.data(), span.size()});
  if (!ranges_.empty() && ranges_.back().first.value + ranges_.back().second == address.value)
    ranges_.back().second += length;
  else
    ranges_.emplace_back(address, length);
  bytes_ += length;
  return true;
}

void ScatterList::truncate(uint64_t bytes) {
  if (bytes >= bytes_) return;
  bytes_ = bytes;
  uint64_t left = bytes;
  size_t kept = 0;
  for (; kept < buffers_.size() && left != 0; ++kept) {
    auto& length = buffers_[kept].iov_len;
    length = static_cast<size_t>(std::min<uint64_t>(length, left));
    left -= length;
  }
  buffers_.resize(kept);
  left = bytes;
  for (kept = 0; kept < ranges_.size() && left != 0; ++kept) {
    ranges_[kept].second = std::min(ranges_[kept].second, left);
    left -= ranges_[kept].second;
  }
  ranges_.resize(kept);
}

void ScatterList::note_written(memory::GuestMemory& memory) const {
  for (const auto& [address, length] : ranges_) memory.note_written(address, length);
}

}  // namespace limen::storage
