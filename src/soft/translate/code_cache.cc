#include "soft/translate/code_cache.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <new>
#include <vector>

#include "memory/huge_pages.h"

namespace limen::soft::translate {
namespace {

constexpr size_t kHugePage = memory::kHugePageSize;

size_t round_up(size_t value, size_t to) { return (value + to - 1) / to * to; }

/// Address space, as yet without memory, that lies within 2 GiB of `near` as a whole if there is
/// room; nullptr: there is none anywhere.
void* reserve(size_t size, const void* near) {
  constexpr uintptr_t kStep = uintptr_t{64} << 20, kReach = uintptr_t{1} << 31;
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  const uintptr_t center = reinterpret_cast<uintptr_t>(near) & ~(kStep - 1);
  for (uintptr_t distance = kStep; distance + size + kStep < kReach; distance += kStep)
    for (const uintptr_t start : {center - distance - round_up(size, kStep), center + distance}) {
      void* area = mmap(reinterpret_cast<void*>(start), size, PROT_NONE,
                        kFlags | MAP_FIXED_NOREPLACE, -1, 0);
      if (area == reinterpret_cast<void*>(start)) return area;
      if (area != MAP_FAILED) munmap(area, size);  // a kernel that does not know the flag
    }
  void* area = mmap(nullptr, size, PROT_NONE, kFlags, -1, 0);
  return area == MAP_FAILED ? nullptr : area;
}

}  // namespace

CodeCache::CodeCache(size_t code_size, size_t data_size, const void* near)
    : code_size_(code_size), size_(code_size + data_size) {
  if (!map_protected(near)) map_twice(near);
}

bool CodeCache::map_protected(const void* near) {
  key_ = pkey_alloc(0, PKEY_DISABLE_WRITE);
  if (key_ < 0) return false;
  area_size_ = round_up(size_, kHugePage) + kHugePage;
  area_ = reserve(area_size_, near);
  if (area_ != nullptr) {
    auto* const code =
        reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(area_), kHugePage));
    if (mprotect(area_, area_size_, PROT_READ | PROT_WRITE) == 0 &&
        pkey_mprotect(code, code_size_, PROT_READ | PROT_WRITE | PROT_EXEC, key_) == 0) {
      madvise(code, code_size_, MADV_HUGEPAGE);
      prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, code, code_size_, "limen-code");
      writable_ = executable_ = code;
      return true;
    }
    munmap(area_, area_size_);
  }
  area_ = nullptr;
  pkey_free(key_);
  key_ = -1;
  return false;
}

void CodeCache::map_twice(const void* near) {
  area_size_ = size_ + kHugePage;
  area_ = mmap(nullptr, area_size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area_ == MAP_FAILED) throw std::bad_alloc();
  // Without a name, so that perf looks for the code in its map.
  void* writable =
      mmap(reinterpret_cast<void*>(round_up(reinterpret_cast<uintptr_t>(area_), kHugePage)), size_,
           PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  void* executable = reserve(size_, near);  // at a multiple of a huge page, if it is near
  if (writable != MAP_FAILED && executable != nullptr &&  // size 0: a second view
      mremap(writable, 0, size_, MREMAP_MAYMOVE | MREMAP_FIXED, executable) == executable &&
      mprotect(executable, code_size_, PROT_READ | PROT_EXEC) == 0 &&
      mprotect(static_cast<uint8_t*>(executable) + code_size_, size_ - code_size_, PROT_READ) ==
          0) {
    writable_ = static_cast<uint8_t*>(writable);
    executable_ = static_cast<uint8_t*>(executable);
    return;
  }
  if (executable != nullptr) munmap(executable, size_);
  munmap(area_, area_size_);
  throw std::bad_alloc();
}

CodeCache::~CodeCache() {
  munmap(area_, area_size_);
  if (key_ >= 0)
    pkey_free(key_);
  else
    munmap(executable_, size_);
}

void CodeCache::prepare_thread() const {
  // A thread begins with no access by keys that others made.
  if (key_ >= 0) pkey_set(key_, PKEY_DISABLE_WRITE);
}

uint32_t CodeCache::populate(uint32_t offset, size_t size) const {
  if (key_ >= 0) return static_cast<uint32_t>(code_size_);  // huge pages that come as they are used
  const auto rounded = [&](size_t unit) {
    return std::pair(offset / unit * unit, std::min(round_up(offset + size, unit), code_size_));
  };
  if (const auto [start, end] = rounded(kHugePage);
      end % kHugePage == 0 && memory::make_huge(writable_ + start, end - start) &&
      memory::make_huge(executable_ + start, end - start))
    return static_cast<uint32_t>(end);
  constexpr size_t kStep = size_t{128} << 10;
  const auto [start, end] = rounded(kStep);
  // Before Linux 5.14 there is no such advice, and the pages come one by one.
  static_cast<void>(madvise(writable_ + start, end - start, MADV_POPULATE_WRITE));
  return static_cast<uint32_t>(end);
}

size_t CodeCache::resident_bytes() const {
  constexpr size_t kPage = 4096;
  std::vector<uint8_t> pages((size_ + kPage - 1) / kPage);
  if (mincore(writable_, size_, pages.data()) != 0) return 0;
  return static_cast<size_t>(std::ranges::count_if(pages, [](uint8_t page) { return page & 1; })) *
         kPage;
}

CodeCache::Edit::Edit(const CodeCache& cache) : key_(cache.key_) {
  if (key_ >= 0) pkey_set(key_, 0);
}

CodeCache::Edit::~Edit() {
  if (key_ >= 0) pkey_set(key_, PKEY_DISABLE_WRITE);
}

}  // namespace limen::soft::translate
