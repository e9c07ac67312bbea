#include "net/frame.h"

#include <algorithm>
#include <cstring>

namespace limen::net {

size_t copy_out(const Frame& frame, std::span<std::byte> into) {
  size_t done = 0;
  for (const iovec& part : frame.parts) {
    const size_t count = std::min(part.iov_len, into.size() - done);
    if (count != 0) std::memcpy(into.data() + done, part.iov_base, count);
    done += count;
    if (done == into.size()) break;
  }
  return done;
}

std::span<std::byte> flatten(const Frame& frame, std::vector<std::byte>& storage) {
  if (storage.size() < frame.bytes) storage.resize(frame.bytes);
  return std::span(storage).first(copy_out(frame, std::span(storage).first(frame.bytes)));
}

}  // namespace limen::net
