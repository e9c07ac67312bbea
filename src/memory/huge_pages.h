// Huge pages for memory that several processes or views share: kernels seldom give such any by
// themselves.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace limen::memory {

inline constexpr uint64_t kHugePageSize = uint64_t{2} << 20;

/// Has the host make huge pages of whole ones at `start`, with what they hold. False where it does
/// not, as before Linux 6.1: everything goes on as it was.
inline bool make_huge(void* start, size_t size) noexcept {
  constexpr int kCollapse = 25;  // MADV_COLLAPSE
  return madvise(start, size, kCollapse) == 0;
}

}  // namespace limen::memory
