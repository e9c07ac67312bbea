#include "monitor/guest_view.h"

#include <algorithm>
#include <cstring>

#include "x86/registers.h"

namespace limen::monitor {
namespace {

constexpr uint64_t kPresent = 1, kWritable = 2, kUser = 4, kPageSizeBit = 1 << 7;
constexpr uint64_t kAddressMask = 0x000F'FFFF'FFFF'F000;
constexpr uint64_t kNoExecute = uint64_t{1} << 63;

unsigned shift_of(unsigned level, unsigned index_bits) { return 12 + (level - 1) * index_bits; }

}  // namespace

bool GuestView::long_code() const {
  return (state_.system.efer & x86::efer::kLma) != 0 && state_.system.segments[x86::kCs].is_long();
}

GuestView::Shape GuestView::shape() const {
  const auto& system = state_.system;
  if ((system.cr0 & x86::cr0::kPaging) == 0) return {};
  if ((system.cr4 & x86::cr4::kPae) == 0) return {.levels = 2, .entry_size = 4, .index_bits = 10};
  if ((system.efer & x86::efer::kLma) == 0) return {.levels = 3};
  return {.levels = (system.cr4 & x86::cr4::kLa57) != 0 ? 5u : 4u, .long_mode = true};
}

std::optional<uint64_t> GuestView::entry(const Shape& shape, uint64_t table, uint64_t index) const {
  uint64_t value = 0;
  const auto bytes = std::as_writable_bytes(std::span(&value, 1)).first(shape.entry_size);
  if (!read_physical(table + index * shape.entry_size, bytes)) return std::nullopt;
  return value;
}

bool GuestView::is_page(const Shape& shape, unsigned level, uint64_t entry) const {
  if (level == 1) return true;
  if ((entry & kPageSizeBit) == 0) return false;
  if (shape.entry_size == 4) return (state_.system.cr4 & x86::cr4::kPse) != 0;
  return level == 2 || (level == 3 && shape.long_mode);
}

std::optional<uint64_t> GuestView::physical_of(uint64_t linear) const {
  const Shape how = shape();
  if (!how.long_mode) linear &= 0xFFFF'FFFF;
  if (how.levels == 0) return linear;
  uint64_t table = how.levels == 3 && !how.long_mode ? state_.system.cr3 & 0xFFFF'FFE0
                                                     : state_.system.cr3 & kAddressMask;
  for (unsigned level = how.levels; level > 0; --level) {
    const unsigned shift = shift_of(level, how.index_bits);
    const uint64_t index = linear >> shift & ((uint64_t{1} << how.index_bits) - 1);
    const auto found = entry(how, table, index);
    if (!found || (*found & kPresent) == 0) return std::nullopt;
    if (is_page(how, level, *found)) {
      const uint64_t offset_mask = (uint64_t{1} << shift) - 1;
      uint64_t base = *found & kAddressMask & ~offset_mask;
      // Bits 13 to 20 of a 4 MiB page's entry are bits 32 to 39 of its address (PSE-36).
      if (how.entry_size == 4 && level == 2) base |= (*found >> 13 & 0xFF) << 32;
      return base | (linear & offset_mask);
    }
    table = *found & kAddressMask;
  }
  return std::nullopt;
}

void GuestView::walk(const Shape& shape, unsigned level, uint64_t table, const Mapping& so_far,
                     const std::function<void(const Mapping&)>& visit) const {
  const unsigned shift = shift_of(level, shape.index_bits);
  // The table at the top of PAE paging has four entries.
  const uint64_t count = level == 3 && !shape.long_mode ? 4 : uint64_t{1} << shape.index_bits;
  for (uint64_t index = 0; index < count; ++index) {
    const auto found = entry(shape, table, index);
    if (!found || (*found & kPresent) == 0) continue;
    Mapping here = so_far;
    here.linear |= index << shift;
    if (level == shape.levels && shape.long_mode && (index & 0x100) != 0)
      here.linear |= ~uint64_t{0} << (shift + 9);            // canonical
    const bool rights_here = level != 3 || shape.long_mode;  // a PAE directory pointer has none
    const uint64_t rights = rights_here ? *found & (kWritable | kUser) : kWritable | kUser;
    here.entry = (*found & ~(kWritable | kUser)) | (so_far.entry & rights);
    here.no_execute = so_far.no_execute || (shape.entry_size == 8 && (*found & kNoExecute) != 0);
    if (!is_page(shape, level, *found)) {
      walk(shape, level - 1, *found & kAddressMask, here, visit);
      continue;
    }
    here.size = uint64_t{1} << shift;
    here.physical = *found & kAddressMask & ~(here.size - 1);
    if (shape.entry_size == 4 && level == 2) here.physical |= (*found >> 13 & 0xFF) << 32;
    visit(here);
  }
}

void GuestView::for_each_mapping(const std::function<void(const Mapping&)>& visit) const {
  const Shape how = shape();
  if (how.levels == 0) return;
  const uint64_t table = how.levels == 3 && !how.long_mode ? state_.system.cr3 & 0xFFFF'FFE0
                                                           : state_.system.cr3 & kAddressMask;
  Mapping all;
  all.entry = kWritable | kUser;
  walk(how, how.levels, table, all, visit);
}

bool GuestView::read_physical(uint64_t address, std::span<std::byte> into) const {
  return memory_.read(GuestPhysicalAddress{address}, into).has_value() ||
         (mmio_ != nullptr && read_device(address, into));
}

/// In accesses as wide as a register and a place allow.
bool GuestView::read_device(uint64_t address, std::span<std::byte> into) const {
  const auto claims = mmio_->claims();
  const auto has = [&](const memory::IoSpace::Claim& claim) {
    return address >= claim.start && address - claim.start < claim.size;
  };
  while (!into.empty()) {
    if (std::ranges::none_of(claims, has)) return false;
    unsigned size = 4;
    while (size > into.size() || address % size != 0) size /= 2;
    const uint64_t value = mmio_->read(address, size);
    std::memcpy(into.data(), &value, size);
    into = into.subspan(size);
    address += size;
  }
  return true;
}

bool GuestView::read_linear(uint64_t address, std::span<std::byte> into) const {
  while (!into.empty()) {
    const auto physical = physical_of(address);
    const size_t count =
        std::min<size_t>(into.size(), memory::kPageSize - address % memory::kPageSize);
    if (!physical || !read_physical(*physical, into.first(count))) return false;
    into = into.subspan(count);
    address += count;
  }
  return true;
}

}  // namespace limen::monitor
