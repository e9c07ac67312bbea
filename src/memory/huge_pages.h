// Huge pages: for memory that several processes or views share, which kernels seldom give any by
// themselves, and those that a person has set aside.
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

/// Bytes of the pages that a mapping of `file` consists of: more than kPageSize where the file is
/// in hugetlbfs, as that of memfd_create(2) with MFD_HUGETLB is.
[[nodiscard]] uint64_t page_size_of_file(int file);

}  // namespace limen::memory
