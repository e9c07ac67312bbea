#include "soft/translate/code_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace limen::soft::translate {

CodeCache::CodeCache(size_t code_size, size_t data_size)
    : memory_(memfd_create("limen-code", MFD_CLOEXEC)),
      code_size_(code_size),
      size_(code_size + data_size) {
  if (!memory_.valid() || ftruncate(memory_.get(), static_cast<off_t>(size_)) != 0)
    throw std::bad_alloc();
  void* writable = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0);
  if (writable == MAP_FAILED) throw std::bad_alloc();
  writable_ = static_cast<uint8_t*>(writable);
  void* executable = mmap(nullptr, size_, PROT_READ | PROT_EXEC, MAP_SHARED, memory_.get(), 0);
  if (executable == MAP_FAILED ||
      mprotect(static_cast<uint8_t*>(executable) + code_size_, data_size, PROT_READ) != 0) {
    munmap(writable, size_);
    throw std::bad_alloc();
  }
  executable_ = static_cast<uint8_t*>(executable);
}

CodeCache::~CodeCache() {
  munmap(writable_, size_);
  munmap(executable_, size_);
}

}  // namespace limen::soft::translate
