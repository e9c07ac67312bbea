#include "soft/mmu/page_walk.h"

#include <utility>

#include "x86/exception.h"
#include "x86/registers.h"

namespace limen::soft {

using namespace x86;  // NOLINT(google-build-using-namespace): register bits by the dozen

namespace {

constexpr uint64_t kPresent = 1u << 0;
constexpr uint64_t kWritable = 1u << 1;
constexpr uint64_t kUser = 1u << 2;
constexpr uint64_t kAccessed = 1u << 5;
constexpr uint64_t kDirty = 1u << 6;
constexpr uint64_t kPageSize = 1u << 7;
constexpr uint64_t kGlobal = 1u << 8;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;
constexpr uint64_t kAddress = 0x000F'FFFF'FFFF'F000;

constexpr uint64_t bits(unsigned high, unsigned low) {
  return high < low ? 0 : (~uint64_t{0} >> (63 - high)) & (~uint64_t{0} << low);
}

}  // namespace

/// One paging-structure entry that a walk used.
struct PageWalker::Step {
  std::byte* host = nullptr;  // nullptr: the tables stand outside RAM
  uint64_t physical = 0;
  uint32_t ram_page = RamMap::kNotRam;
  uint64_t value = 0;
  unsigned size = 8;
};

struct PageWalker::Path {
  std::array<Step, 4> steps;
  unsigned count = 0;
};

void PageWalker::configure(unsigned physical_address_bits, bool gigabyte_pages) {
  physical_bits_ = physical_address_bits < 32 ? 32 : physical_address_bits;
  gigabyte_pages_ = gigabyte_pages;
}

void PageWalker::set_registers(uint64_t cr0, uint64_t cr3, uint64_t cr4, uint64_t efer) {
  cr3_ = cr3;
  write_protect_ = (cr0 & cr0::kWriteProtect) != 0;
  smep_ = (cr4 & cr4::kSmep) != 0;
  supervisor_keys_ = (cr4 & cr4::kPks) != 0 && (efer & efer::kLma) != 0;
  page_size_extensions_ = (cr4 & cr4::kPse) != 0;
  global_enabled_ = (cr4 & cr4::kPge) != 0;
  const bool pae = (cr4 & cr4::kPae) != 0;
  no_execute_enabled_ = pae && (efer & efer::kNxe) != 0;
  instruction_bit_ = smep_ || no_execute_enabled_;
  if ((cr0 & cr0::kPaging) == 0)
    mode_ = PagingMode::kOff;
  else if ((efer & efer::kLma) != 0)
    mode_ = PagingMode::k4Level;
  else
    mode_ = pae ? PagingMode::kPae : PagingMode::k32Bit;
  // Bits 62:52 are ignored in 4-level paging and reserved in PAE paging (SDM Vol. 3A 4.4.2, 4.5.4).
  reserved_ = mode_ == PagingMode::kPae ? bits(62, physical_bits_) : bits(51, physical_bits_);
  if (!no_execute_enabled_) reserved_ |= kNoExecute;
}

bool PageWalker::set_supervisor_keys(uint32_t pkrs) {
  const uint32_t changed = std::exchange(pkrs_, pkrs) ^ pkrs;
  bool stale = false;
  for (unsigned key = 0; key < 16; ++key)
    stale |= (changed >> (2 * key) & 3) != 0 && (keys_seen_ >> key & 1) != 0;
  if (stale) keys_seen_ = 0;
  return stale && supervisor_keys_;
}

bool PageWalker::load_pdptes(uint64_t cr3) {
  std::array<uint64_t, 4> loaded{};
  Path path;
  for (unsigned i = 0; i < 4; ++i) {
    path.count = 0;
    loaded[i] = load((cr3 & 0xFFFF'FFE0) + 8 * i, 8, path);
    const uint64_t reserved = bits(2, 1) | bits(8, 5) | bits(63, physical_bits_);
    if ((loaded[i] & kPresent) != 0 && (loaded[i] & reserved) != 0) return false;
  }
  pdptes_ = loaded;
  return true;
}

uint64_t PageWalker::load(uint64_t physical, unsigned size, Path& path) const {
  Step& step = path.steps[path.count++];
  const auto location = ram_.find(physical);
  // What cannot be written has its A and D bits where a store would go.
  step = {location.writable ? location.host : nullptr, physical, location.page, 0, size};
  if (location.host == nullptr)
    step.value = mmio_.read(physical, size);
  else if (size == 8)
    step.value = __atomic_load_n(reinterpret_cast<uint64_t*>(location.host), __ATOMIC_RELAXED);
  else
    step.value = __atomic_load_n(reinterpret_cast<uint32_t*>(location.host), __ATOMIC_RELAXED);
  return step.value;
}

PageWalker::Find PageWalker::find_32bit(uint64_t linear, Translation& page, Path& path) const {
  const uint64_t directory = load((cr3_ & 0xFFFF'F000) + ((linear >> 22) & 0x3FF) * 4, 4, path);
  if ((directory & kPresent) == 0) return Find::kNotPresent;
  page.user = (directory & kUser) != 0;
  page.writable = (directory & kWritable) != 0;
  uint64_t leaf = directory;
  if ((directory & kPageSize) != 0 && page_size_extensions_) {
    // PSE-36: bits 20:13 are address bits 39:32, as far as MAXPHYADDR goes (SDM Vol. 3A 4.3).
    const unsigned width = physical_bits_ < 40 ? physical_bits_ : 40;
    if ((directory & bits(21, width - 19)) != 0) return Find::kReserved;
    page.page_shift = 22;
    page.physical =
        (directory & 0xFFC0'0000) | ((directory & bits(20, 13)) << 19) | (linear & 0x003F'FFFF);
  } else {
    leaf = load((directory & 0xFFFF'F000) + ((linear >> 12) & 0x3FF) * 4, 4, path);
    if ((leaf & kPresent) == 0) return Find::kNotPresent;
    page.user &= (leaf & kUser) != 0;
    page.writable &= (leaf & kWritable) != 0;
    page.physical = (leaf & 0xFFFF'F000) | (linear & 0xFFF);
  }
  page.global = global_enabled_ && (leaf & kGlobal) != 0;
  page.dirty = (leaf & kDirty) != 0;
  return Find::kFound;
}

PageWalker::Find PageWalker::find_wide(uint64_t linear, Translation& page, Path& path) const {
  page.user = page.writable = true;
  uint64_t table = cr3_ & kAddress;
  unsigned level = 4;
  if (mode_ == PagingMode::kPae) {
    const uint64_t pdpte = pdptes_[(linear >> 30) & 3];
    if ((pdpte & kPresent) == 0) return Find::kNotPresent;
    table = pdpte & kAddress;
    level = 2;
  }
  for (;; --level) {
    const unsigned shift = 12 + 9 * (level - 1);
    const uint64_t entry = load(table + ((linear >> shift) & 0x1FF) * 8, 8, path);
    if ((entry & kPresent) == 0) return Find::kNotPresent;
    uint64_t reserved = reserved_;
    const bool leaf = level == 1 || ((entry & kPageSize) != 0 && level <= 3);
    if (level == 4 || (level == 3 && !gigabyte_pages_)) reserved |= kPageSize;
    if (leaf && level > 1) reserved |= bits(shift - 1, 13);
    if ((entry & reserved) != 0) return Find::kReserved;
    page.user &= (entry & kUser) != 0;
    page.writable &= (entry & kWritable) != 0;
    page.no_execute |= (entry & kNoExecute) != 0;
    if (!leaf) {
      table = entry & kAddress;
      continue;
    }
    const uint64_t offset = bits(shift - 1, 0);
    page.page_shift = static_cast<uint8_t>(shift);
    page.physical = (entry & kAddress & ~offset) | (linear & offset);
    page.global = global_enabled_ && (entry & kGlobal) != 0;
    page.dirty = (entry & kDirty) != 0;
    if (mode_ == PagingMode::k4Level) page.key = static_cast<uint8_t>(entry >> 59 & 0xF);
    if (!page.user) keys_seen_ = static_cast<uint16_t>(keys_seen_ | 1u << page.key);
    return Find::kFound;
  }
}

PageWalker::Find PageWalker::find(uint64_t linear, Translation& page, Path& path) const {
  if (mode_ == PagingMode::k32Bit) return find_32bit(linear, page, path);
  return find_wide(linear, page, path);
}

bool PageWalker::permits(const Translation& page, Access access, View view) const {
  if (mode_ == PagingMode::kOff) return true;
  if (access == Access::kExecute) return permits_execution(page, view);
  return permits_data(page, access, view);
}

Translation PageWalker::walk(uint64_t linear, Access access, View view) {
  entry_write_count_ = 0;
  if (mode_ == PagingMode::kOff)
    return {.physical = linear, .user = true, .writable = true, .dirty = true};
  for (;;) {
    Translation page;
    Path path;
    switch (find(linear, page, path)) {
      case Find::kNotPresent:
        raise(linear, access, view, 0);
      case Find::kReserved:
        raise(linear, access, view, page_fault_code::kPresent | page_fault_code::kReserved);
      case Find::kFound:
        break;
    }
    if (!permits(page, access, view)) {
      const bool by_key = key_forbids(page, access, view);
      raise(linear, access, view,
            page_fault_code::kPresent | (by_key ? page_fault_code::kProtectionKey : 0));
    }
    if (!update_bits(path, access)) continue;
    page.dirty |= access == Access::kWrite;
    return page;
  }
}

std::optional<Translation> PageWalker::peek(uint64_t linear) const {
  Translation page{.physical = linear, .user = true, .writable = true};
  if (mode_ == PagingMode::kOff) return page;
  Path path;
  page = {};
  if (find(linear, page, path) != Find::kFound) return std::nullopt;
  return page;
}

// Sets A in every entry used and D in the leaf of a write, each with a locked compare-exchange:
// another processor or the operating system may change the entry meanwhile, and then the walk
// starts over (SDM Vol. 3A 4.8).
bool PageWalker::update_bits(const Path& path, Access access) {
  for (unsigned i = 0; i < path.count; ++i) {
    const Step& step = path.steps[i];
    uint64_t wanted = step.value | kAccessed;
    if (i + 1 == path.count && access == Access::kWrite) wanted |= kDirty;
    if (wanted == step.value) continue;
    if (step.host == nullptr) {
      mmio_.write(step.physical, step.size, wanted);
      continue;
    }
    bool done;
    if (step.size == 8) {
      uint64_t expected = step.value;
      done = __atomic_compare_exchange_n(reinterpret_cast<uint64_t*>(step.host), &expected, wanted,
                                         false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    } else {
      auto expected = static_cast<uint32_t>(step.value);
      done = __atomic_compare_exchange_n(reinterpret_cast<uint32_t*>(step.host), &expected,
                                         static_cast<uint32_t>(wanted), false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_RELAXED);
    }
    if (!done) return false;
    if (entry_write_count_ < entry_writes_.size())
      entry_writes_[entry_write_count_++] = {step.ram_page,
                                             static_cast<uint32_t>(step.physical & 0xFFF)};
  }
  return true;
}

// The error code of SDM Vol. 3A 4.7: a fault on an implicit supervisor access has U/S clear.
void PageWalker::raise(uint64_t linear, Access access, View view, uint32_t code) const {
  if (access == Access::kWrite) code |= page_fault_code::kWrite;
  if (view == View::kUser) code |= page_fault_code::kUser;
  if (access == Access::kExecute && instruction_bit_) code |= page_fault_code::kInstruction;
  throw Exception::page_fault(linear, code);
}

}  // namespace limen::soft
