#include "soft/translate/code_cache.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#include <algorithm>
#include <new>
#include <vector>

namespace limen::soft::translate {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t value, size_t to) { return (value + to - 1) / to * to; }

}  // namespace

CodeCache::CodeCache(size_t code_size, size_t data_size)
    : code_size_(code_size), size_(code_size + data_size) {
  if (!map_protected()) map_twice();
}

bool CodeCache::map_protected() {
  key_ = pkey_alloc(0, PKEY_DISABLE_WRITE);
  if (key_ < 0) return false;
  area_size_ = round_up(size_, kHugePage) + kHugePage;
  area_ = mmap(nullptr, area_size_, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area_ != MAP_FAILED) {
    auto* const code =
        reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(area_), kHugePage));
    if (pkey_mprotect(code, code_size_, PROT_READ | PROT_WRITE | PROT_EXEC, key_) == 0) {
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

void CodeCache::map_twice() {
  // Without a name, so that perf looks for the code in its map.
  void* writable = mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (writable == MAP_FAILED) throw std::bad_alloc();
  void* executable = mremap(writable, 0, size_, MREMAP_MAYMOVE);  // 0: a second view
  if (executable == MAP_FAILED || mprotect(executable, code_size_, PROT_READ | PROT_EXEC) != 0 ||
      mprotect(static_cast<uint8_t*>(executable) + code_size_, size_ - code_size_, PROT_READ) !=
          0) {
    if (executable != MAP_FAILED) munmap(executable, size_);
    munmap(writable, size_);
    throw std::bad_alloc();
  }
  writable_ = static_cast<uint8_t*>(writable);
  executable_ = static_cast<uint8_t*>(executable);
}

CodeCache::~CodeCache() {
  if (key_ >= 0) {
    munmap(area_, area_size_);
    pkey_free(key_);
  } else {
    munmap(writable_, size_);
    munmap(executable_, size_);
  }
}

void CodeCache::prepare_thread() const {
  // A thread begins with no access by keys that others made.
  if (key_ >= 0) pkey_set(key_, PKEY_DISABLE_WRITE);
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
