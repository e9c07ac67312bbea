#include "block/buffers.h"

#include <algorithm>
#include <cstring>

namespace limen::block {
namespace {

/// Calls `use(pointer, size)` for the pieces of `length` bytes from `skip` on.
template <typename Use>
void for_each_piece(std::span<const iovec> buffers, uint64_t skip, uint64_t length, Use use) {
  for (const auto& buffer : buffers) {
    if (length == 0) return;
    if (skip >= buffer.iov_len) {
      skip -= buffer.iov_len;
      continue;
    }
    const auto size = static_cast<size_t>(std::min<uint64_t>(length, buffer.iov_len - skip));
    use(static_cast<std::byte*>(buffer.iov_base) + skip, size);
    length -= size;
    skip = 0;
  }
}

}  // namespace

uint64_t total_size(std::span<const iovec> buffers) {
  uint64_t bytes = 0;
  for (const auto& buffer : buffers) bytes += buffer.iov_len;
  return bytes;
}

std::vector<iovec> slice(std::span<const iovec> buffers, uint64_t skip, uint64_t length) {
  std::vector<iovec> part;
  for_each_piece(buffers, skip, length,
                 [&part](std::byte* at, size_t size) { part.push_back({at, size}); });
  return part;
}

void copy_out(std::span<const iovec> buffers, uint64_t skip, std::span<std::byte> to) {
  for_each_piece(buffers, skip, to.size(), [&to](const std::byte* at, size_t size) {
    std::memcpy(to.data(), at, size);
    to = to.subspan(size);
  });
}

void copy_in(std::span<const iovec> buffers, uint64_t skip, std::span<const std::byte> from) {
  for_each_piece(buffers, skip, from.size(), [&from](std::byte* at, size_t size) {
    std::memcpy(at, from.data(), size);
    from = from.subspan(size);
  });
}

void fill_zero(std::span<const iovec> buffers, uint64_t skip, uint64_t length) {
  for_each_piece(buffers, skip, length,
                 [](std::byte* at, size_t size) { std::memset(at, 0, size); });
}

bool all_zero(std::span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  // Each byte equals the one before it, and the first is zero.
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

bool all_zero(std::span<const iovec> buffers) {
  return std::ranges::all_of(buffers, [](const iovec& buffer) {
    return all_zero({static_cast<const std::byte*>(buffer.iov_base), buffer.iov_len});
  });
}

AlignedMemory aligned_memory(uint64_t size) {
  constexpr uint64_t kAlignment = 4096;
  size = std::max(kAlignment, (size + kAlignment - 1) & ~(kAlignment - 1));
  return AlignedMemory(static_cast<std::byte*>(std::aligned_alloc(kAlignment, size)));
}

}  // namespace limen::block
