#include "block/filters/detect_zeroes.h"

#include <algorithm>
#include <cstring>

namespace limen::block {

bool all_zero(const std::vector<iovec>& buffers) {
  return std::ranges::all_of(buffers, [](const iovec& buffer) {
    const auto* bytes = static_cast<const std::byte*>(buffer.iov_base);
    // Each byte is compared with the one before it, by the fastest loop that the host has.
    return buffer.iov_len == 0 ||
           (bytes[0] == std::byte{} && std::memcmp(bytes, bytes + 1, buffer.iov_len - 1) == 0);
  });
}

void DetectZeroes::submit(Request request) {
  if (request.kind == Request::Kind::kWrite && all_zero(request.buffers)) {
    request.length = 0;
    for (const iovec& buffer : request.buffers) request.length += buffer.iov_len;
    request.kind = Request::Kind::kWriteZeroes;
    request.may_unmap = unmap_;
    request.buffers.clear();
  }
  below().submit(std::move(request));
}

}  // namespace limen::block
