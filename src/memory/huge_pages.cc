#include "memory/huge_pages.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include "memory/guest_memory.h"

namespace limen::memory {

uint64_t page_size_of_file(int file) {
  struct statfs system {};
  if (::fstatfs(file, &system) != 0 || system.f_type != HUGETLBFS_MAGIC) return kPageSize;
  return static_cast<uint64_t>(system.f_bsize);
}

}  // namespace limen::memory
