#include "soft/interpret/native/code_area.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "soft/interpret/native/emit.h"
#include "soft/interpret/native/fault_signals.h"

namespace limen::soft::interpret::native {

CodeArea& CodeArea::instance() {
  // Never destroyed: a signal handler refers to it.
  static CodeArea& area = [] -> CodeArea& {
    auto* made = new CodeArea;
    if (auto result = made->create(); !result) {
      std::fprintf(stderr, "limen: %s\n", result.error().message.c_str());
      std::exit(1);
    }
    install_fault_handlers(*made);
    return *made;
  }();
  return area;
}

Result<> CodeArea::create() {
  memory_.reset(memfd_create("limen-thunks", MFD_CLOEXEC));
  if (!memory_.valid()) return fail_errno(errno, "cannot create memory for generated code");
  if (ftruncate(memory_.get(), kSize) != 0)
    return fail_errno(errno, "cannot size the memory for generated code");
  const auto map = [&](int protection) {
    return mmap(nullptr, kSize, protection, MAP_SHARED, memory_.get(), 0);
  };
  void* writable = map(PROT_READ | PROT_WRITE);
  if (writable == MAP_FAILED) return fail_errno(errno, "cannot map memory for generated code");
  void* executable = map(PROT_READ | PROT_EXEC);
  if (executable == MAP_FAILED) {
    munmap(writable, kSize);
    return fail_errno(errno, "cannot map memory for generated code as executable");
  }
  writable_ = static_cast<std::byte*>(writable);
  executable_ = static_cast<std::byte*>(executable);
  void* sites = mmap(nullptr, kMaxSites * sizeof(Site), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sites == MAP_FAILED) return fail_errno(errno, "cannot map the table of generated code");
  sites_ = static_cast<Site*>(sites);
  site_count_ = 1;
  used_ = kMaxThunkSize;
  return {};
}

std::span<std::byte> CodeArea::next(size_t size) {
  if (used_ + size > kSize || site_count_.load(std::memory_order_relaxed) == kMaxSites) return {};
  return {writable_ + used_, size};
}

std::span<std::byte> CodeArea::transient() { return {writable_, kMaxThunkSize}; }

const uint8_t* CodeArea::commit(std::span<std::byte> where, size_t size, size_t instruction,
                                size_t recovery) {
  const auto start = static_cast<size_t>(where.data() - writable_);
  const Site site = {.instruction = static_cast<uint32_t>(start + instruction),
                     .recovery = static_cast<uint32_t>(start + recovery)};
  if (start == 0) {
    sites_[0] = site;
  } else {
    const size_t count = site_count_.load(std::memory_order_relaxed);
    sites_[count] = site;
    site_count_.store(count + 1, std::memory_order_release);
    used_ = (start + size + 15) & ~size_t{15};
  }
  return reinterpret_cast<const uint8_t*>(executable_ + start);
}

uintptr_t CodeArea::recovery_for(uintptr_t address) const {
  const auto base = reinterpret_cast<uintptr_t>(executable_);
  if (address - base >= kSize) return 0;
  const auto offset = static_cast<uint32_t>(address - base);
  const Site* end = sites_ + site_count_.load(std::memory_order_acquire);
  const Site* found =
      std::lower_bound(static_cast<const Site*>(sites_), end, offset,
                       [](const Site& site, uint32_t wanted) { return site.instruction < wanted; });
  return found != end && found->instruction == offset ? base + found->recovery : 0;
}

}  // namespace limen::soft::interpret::native
