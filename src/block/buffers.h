// Parts of lists of buffers.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

namespace limen::block {

[[nodiscard]] uint64_t total_size(std::span<const iovec> buffers);
/// The `length` bytes that begin `skip` bytes in.
[[nodiscard]] std::vector<iovec> slice(std::span<const iovec> buffers, uint64_t skip,
                                       uint64_t length);
void copy_out(std::span<const iovec> buffers, uint64_t skip, std::span<std::byte> to);
void copy_in(std::span<const iovec> buffers, uint64_t skip, std::span<const std::byte> from);
void fill_zero(std::span<const iovec> buffers, uint64_t skip, uint64_t length);
[[nodiscard]] bool all_zero(std::span<const std::byte> bytes);
[[nodiscard]] bool all_zero(std::span<const iovec> buffers);

/// Aligned so that O_DIRECT takes it everywhere.
struct FreeMemory {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using AlignedMemory = std::unique_ptr<std::byte[], FreeMemory>;
/// nullptr when there is no memory.
[[nodiscard]] AlignedMemory aligned_memory(uint64_t size);

[[nodiscard]] inline iovec buffer_over(std::span<std::byte> bytes) {
  return {bytes.data(), bytes.size()};
}

}  // namespace limen::block
