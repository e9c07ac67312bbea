// The misses of the soft TLB that need nothing but a walk: for translated code, which calls here
// with the guest's vector registers in the host's. Built without vector instructions, and nothing
// here may call what is not.
#include "soft/mmu/mmu.h"

namespace limen::soft {
namespace {

namespace code = x86::page_fault_code;

constexpr uint64_t kPresent = 1u << 0, kWritable = 1u << 1, kUser = 1u << 2, kAccessed = 1u << 5,
                   kDirty = 1u << 6, kPageSize = 1u << 7, kGlobal = 1u << 8;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kAddress = 0x000F'FFFF'FFFF'F000;

}  // namespace

PageWalker::Quick PageWalker::quick_walk_32bit(uint64_t linear, Translation& page,
                                               QuickPath& path) const noexcept {
  constexpr uint64_t kTable = 0xFFFF'F000;
  path.narrow = true;
  uint64_t table = cr3_ & kTable;
  for (unsigned shift = 22;; shift = 12) {
    const auto location = ram_.find(table + ((linear >> shift) & 0x3FF) * 4);
    if (location.host == nullptr || !location.writable) return Quick::kUnknown;
    const uint64_t entry =
        __atomic_load_n(reinterpret_cast<uint32_t*>(location.host), __ATOMIC_RELAXED);
    if ((entry & kPresent) == 0) return Quick::kFaults;
    path.entries[path.count++] = {location.host, entry, location.page};
    page.user &= (entry & kUser) != 0;
    page.writable &= (entry & kWritable) != 0;
    const bool large = shift == 22 && (entry & kPageSize) != 0 && page_size_extensions_;
    if (shift == 22 && !large) {
      table = entry & kTable;
      continue;
    }
    const uint64_t offset = (uint64_t{1} << shift) - 1;
    // PSE-36, which walk() knows (SDM Vol. 3A 4.3).
    if (large && (entry & offset & ~uint64_t{0x1FFF}) != 0) return Quick::kUnknown;
    page.page_shift = static_cast<uint8_t>(shift);
    page.physical = (entry & kTable & ~offset) | (linear & offset);
    page.global = global_enabled_ && (entry & kGlobal) != 0;
    page.dirty = (entry & kDirty) != 0;
    return Quick::kFound;
  }
}

/// PAE and 4-level paging.
PageWalker::Quick PageWalker::quick_walk_wide(uint64_t linear, Translation& page,
                                              QuickPath& path) const noexcept {
  uint64_t table = cr3_ & kAddress;
  unsigned level = 4;
  if (mode_ == PagingMode::kPae) {
    const uint64_t pdpte = pdptes_[(linear >> 30) & 3];
    if ((pdpte & kPresent) == 0) return Quick::kFaults;
    table = pdpte & kAddress;
    level = 2;
  }
  for (;; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const auto location = ram_.find(table + ((linear >> shift) & 0x1FF) * 8);
    if (location.host == nullptr || !location.writable) return Quick::kUnknown;
    const uint64_t entry =
        __atomic_load_n(reinterpret_cast<uint64_t*>(location.host), __ATOMIC_RELAXED);
    if ((entry & kPresent) == 0) return Quick::kFaults;
    path.entries[path.count++] = {location.host, entry, location.page};
    const bool leaf = level == 1 || ((entry & kPageSize) != 0 && level <= 3);
    const uint64_t offset = (uint64_t{1} << shift) - 1;
    uint64_t reserved = reserved_;
    if (level == 4 || (level == 3 && !gigabyte_pages_)) reserved |= kPageSize;
    if (leaf && level > 1) reserved |= offset & ~uint64_t{0x1FFF};
    if ((entry & reserved) != 0) return Quick::kUnknown;
    page.user &= (entry & kUser) != 0;
    page.writable &= (entry & kWritable) != 0;
    page.no_execute |= (entry & kNoExecute) != 0;
    if (!leaf) {
      table = entry & kAddress;
      continue;
    }
    page.page_shift = static_cast<uint8_t>(shift);
    page.physical = (entry & kAddress & ~offset) | (linear & offset);
    page.global = global_enabled_ && (entry & kGlobal) != 0;
    page.dirty = (entry & kDirty) != 0;
    if (mode_ == PagingMode::k4Level) page.key = static_cast<uint8_t>(entry >> 59 & 0xF);
    if (!page.user) keys_seen_ = static_cast<uint16_t>(keys_seen_ | 1u << page.key);
    return Quick::kFound;
  }
}

PageWalker::Quick PageWalker::quick_walk(uint64_t linear, Access access, View view,
                                         Translation& page, QuickPath& path,
                                         uint32_t& error_code) const noexcept {
  page.user = page.writable = true;
  if (mode_ == PagingMode::kOff) {
    page.physical = linear;
    page.dirty = true;
    return Quick::kFound;
  }
  error_code =
      (access == Access::kWrite ? code::kWrite : 0) | (view == View::kUser ? code::kUser : 0);
  const Quick found = mode_ == PagingMode::k32Bit ? quick_walk_32bit(linear, page, path)
                                                  : quick_walk_wide(linear, page, path);
  if (found != Quick::kFound) return found;
  page.dirty = page.dirty || access == Access::kWrite;  // as it will be
  const bool permitted =
      access == Access::kExecute ? permits_execution(page, view) : permits_data(page, access, view);
  if (permitted) return Quick::kFound;
  error_code |= code::kPresent | (key_forbids(page, access, view) ? code::kProtectionKey : 0);
  return Quick::kFaults;
}

// As PageWalker::update_bits() does it.
bool Mmu::quick_update(const PageWalker::QuickPath& path, Access access, Dirty dirty) noexcept {
  if (path.count != 0 && access == Access::kWrite && dirty == Dirty::kAsItIs &&
      (path.entries[path.count - 1].value & kDirty) == 0)
    return false;
  for (unsigned i = 0; i < path.count; ++i) {
    const auto& entry = path.entries[i];
    uint64_t wanted = entry.value | kAccessed;
    if (i + 1 == path.count && access == Access::kWrite) wanted |= kDirty;
    if (wanted == entry.value) continue;
    const CodeMap& code_map = code_->map();
    if (code_map.holds_code(entry.ram_page)) return false;
    const auto replace = [&]<typename T>(T expected) {
      return __atomic_compare_exchange_n(reinterpret_cast<T*>(entry.host), &expected,
                                         static_cast<T>(wanted), false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED);
    };
    if (path.narrow ? !replace(static_cast<uint32_t>(entry.value)) : !replace(entry.value))
      return false;
    // Another processor may have begun to decode there meanwhile.
    if (code_map.holds_code(entry.ram_page)) ram_.note_code_changed(entry.ram_page);
  }
  return true;
}

const FetchResult* Mmu::quick_fetch_slow(uint64_t linear) noexcept {
  if (!is_canonical(linear)) return nullptr;
  Translation page;
  PageWalker::QuickPath path;
  uint32_t error_code = 0;
  if (walker_.quick_walk(linear, Access::kExecute, mode_.user ? View::kUser : View::kSupervisor,
                         page, path, error_code) != PageWalker::Quick::kFound ||
      !quick_update(path, Access::kExecute, Dirty::kSet))
    return nullptr;
  const uint64_t start = page.physical & ~kPageOffset;
  const RamMap::Location location = map_.find(start);
  if (location.host == nullptr) return nullptr;
  const FetchResult result{.host_page = reinterpret_cast<const uint8_t*>(location.host),
                           .ram_page = location.page,
                           .page = {start},
                           .page_shift = page.page_shift,
                           .global = page.global};
  tlb_.fill_fetch(linear, mode_.user, page, result);
  return &fetch_[FetchBank::index(linear)].result;
}

/// An access inside a page.
Mmu::QuickAccess Mmu::quick_page(uint64_t linear, unsigned size, Access access, View view,
                                 Dirty dirty) noexcept {
  if (!is_canonical(linear)) return {};
  Translation page;
  PageWalker::QuickPath path;
  uint32_t error_code = 0;
  switch (walker_.quick_walk(linear, access, view, page, path, error_code)) {
    case PageWalker::Quick::kFound:
      break;
    case PageWalker::Quick::kFaults:
      return {.faults = true, .error_code = error_code, .fault_address = linear};
    case PageWalker::Quick::kUnknown:
      return {};
  }
  const RamMap::Location location = map_.find(page.physical);
  if (location.host == nullptr || (access == Access::kWrite && !location.writable) ||
      !quick_update(path, access, dirty))
    return {};
  const bool writable =
      page.dirty && location.writable &&
      (walker_.mode() == PagingMode::kOff || walker_.permits_data(page, Access::kWrite, view)) &&
      code_->may_write(index_, location.page, access);
  if (access == Access::kWrite && !writable) {
    // Beside code a store is as any other, but the next one must ask again. Where processors share
    // code, what is decoded must wait for each store that is under way: the slow path sees to it.
    const auto offset = static_cast<uint32_t>(linear & kPageOffset);
    if (code_->is_shared() || code_->map().holds_code(location.page, offset, size)) return {};
    return {.host = location.host};
  }
  tlb_.fill_data(linear, view, page, location, writable);
  if (ram_.note_lookup(location.page)) [[unlikely]] {
    constexpr uint64_t kPages = memory::kHugePageSize / memory::kPageSize;
    static_cast<void>(
        memory::make_huge(ram_.page_data(location.page / kPages * kPages), memory::kHugePageSize));
  }
  return {.host = location.host};
}

Mmu::QuickAccess Mmu::quick_access(uint64_t linear, unsigned size, Access access, View view,
                                   Dirty dirty) noexcept {
  if (check_alignment_) return {};
  if (watchpoints_.any() && (watchpoints_.touches_page(linear) ||
                             watchpoints_.touches_page(linear + size - 1))) [[unlikely]]
    return {};
  const auto in_page = static_cast<unsigned>(4096 - (linear & kPageOffset));
  if (size <= in_page) return quick_page(linear, size, access, view, dirty);
  // Two pages will do as one if they stand side by side in the host, too.
  const QuickAccess first = quick_page(linear, in_page, access, view, dirty);
  if (first.host == nullptr) return first;
  const QuickAccess second = quick_page(linear + in_page, size - in_page, access, view, dirty);
  if (second.faults) return second;
  return second.host == first.host + in_page ? first : QuickAccess{};
}

Mmu::QuickAccess Mmu::quick_stack(uint64_t linear, unsigned size, Access access) noexcept {
  StackPage& stack = tlb_.stack_pages()[mode_.user ? 1 : 0];
  const uint64_t page = linear & ~kPageOffset;
  const View view = mode_.user ? view_ : implicit_view_;  // what may be done there may be in both
  QuickAccess found = quick_access(linear, size, Access::kWrite, view, Dirty::kAsItIs);
  // Where only this access could be made, the page has no write tag.
  if (found.host != nullptr && tlb_.data(view).entries[DataBank::index(linear)].write_tag == page) {
    stack.minus_page.store(-page, std::memory_order_seq_cst);
  } else {
    stack.minus_page.store(StackPage::kNowhere, std::memory_order_relaxed);
    if (found.host == nullptr) found = quick_access(linear, size, access, view_, Dirty::kAsItIs);
  }
  if (found.host != nullptr) stack.difference = reinterpret_cast<uint64_t>(found.host) - linear;
  return found;
}

}  // namespace limen::soft
