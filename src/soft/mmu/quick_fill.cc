// The misses of the soft TLB that need nothing but a walk: for translated code, which calls here
// with the guest's vector registers in the host's. Built without vector instructions, and nothing
// here may call what is not.
#include "soft/mmu/mmu.h"

namespace limen::soft {
namespace {

constexpr uint64_t kPresent = 1u << 0, kWritable = 1u << 1, kUser = 1u << 2, kAccessed = 1u << 5,
                   kDirty = 1u << 6, kPageSize = 1u << 7, kGlobal = 1u << 8;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kAddress = 0x000F'FFFF'FFFF'F000;

bool is_canonical(uint64_t linear) {
  return static_cast<uint64_t>(static_cast<int64_t>(linear << 16) >> 16) == linear;
}

}  // namespace

bool PageWalker::quick_walk(uint64_t linear, Access access, View view,
                            Translation& page) const noexcept {
  if (mode_ != PagingMode::k4Level) return false;
  uint64_t table = cr3_ & kAddress;
  page.user = page.writable = true;
  for (unsigned level = 4;; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const auto location = ram_.find(table + ((linear >> shift) & 0x1FF) * 8);
    if (location.host == nullptr) return false;
    const uint64_t entry =
        __atomic_load_n(reinterpret_cast<const uint64_t*>(location.host), __ATOMIC_RELAXED);
    if ((entry & (kPresent | kAccessed)) != (kPresent | kAccessed)) return false;
    const bool leaf = level == 1 || ((entry & kPageSize) != 0 && level <= 3);
    const uint64_t offset = (uint64_t{1} << shift) - 1;
    uint64_t reserved = reserved_;
    if (level == 4 || (level == 3 && !gigabyte_pages_)) reserved |= kPageSize;
    if (leaf && level > 1) reserved |= offset & ~uint64_t{0x1FFF};
    if ((entry & reserved) != 0) return false;
    page.user &= (entry & kUser) != 0;
    page.writable &= (entry & kWritable) != 0;
    page.no_execute |= (entry & kNoExecute) != 0;
    if (!leaf) {
      table = entry & kAddress;
      continue;
    }
    if (access == Access::kWrite && (entry & kDirty) == 0) return false;
    page.page_shift = static_cast<uint8_t>(shift);
    page.physical = (entry & kAddress & ~offset) | (linear & offset);
    page.global = global_enabled_ && (entry & kGlobal) != 0;
    page.dirty = (entry & kDirty) != 0;
    return access == Access::kExecute ? permits_execution(page, view)
                                      : permits_data(page, access, view);
  }
}

const FetchResult* Mmu::quick_fetch_slow(uint64_t linear) noexcept {
  if (!is_canonical(linear)) return nullptr;
  Translation page;
  if (!walker_.quick_walk(linear, Access::kExecute, mode_.user ? View::kUser : View::kSupervisor,
                          page))
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

std::byte* Mmu::quick_host(uint64_t linear, unsigned size, Access access) noexcept {
  if ((linear & kPageOffset) + size > 4096 || check_alignment_ || watchpoints_.any())
    return nullptr;
  if (!is_canonical(linear)) return nullptr;
  Translation page;
  if (!walker_.quick_walk(linear, access, view_, page)) return nullptr;
  const RamMap::Location location = map_.find(page.physical);
  if (location.host == nullptr) return nullptr;
  const bool writable = page.dirty && walker_.permits_data(page, Access::kWrite, view_) &&
                        code_->may_write(index_, location.page, access);
  if (access == Access::kWrite && !writable) return nullptr;
  tlb_.fill_data(linear, view_, page, location, writable);
  return location.host;
}

}  // namespace limen::soft
