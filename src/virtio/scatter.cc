#include "virtio/scatter.h"

#include <algorithm>

namespace limen::virtio {

std::vector<iovec> slice(const std::vector<Buffer>& buffers, uint64_t skip, uint64_t count) {
  std::vector<iovec> parts;
  parts.reserve(buffers.size());
  for (const Buffer& buffer : buffers) {
    if (count == 0) break;
    if (skip >= buffer.bytes.size()) {
      skip -= buffer.bytes.size();
      continue;
    }
    std::byte* start = buffer.bytes.data() + skip;
    const uint64_t length = std::min<uint64_t>(buffer.bytes.size() - skip, count);
    skip = 0;
    count -= length;
    if (!parts.empty() &&
        static_cast<std::byte*>(parts.back().iov_base) + parts.back().iov_len == start)
      parts.back().iov_len += length;
    else
      parts.push_back({start, length});
  }
  return parts;
}

}  // namespace limen::virtio
