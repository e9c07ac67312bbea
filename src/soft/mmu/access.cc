// The slow paths of Mmu: TLB misses, page crossings, MMIO, pages that hold code, watchpoints and
// alignment checks.
#include <algorithm>

#include "soft/mmu/mmu.h"

namespace limen::soft {

using namespace x86;  // NOLINT(google-build-using-namespace): register bits by the dozen

void Mmu::check_canonical(uint64_t linear) const {
  if ((mode_.efer & efer::kLma) != 0 &&
      static_cast<uint64_t>(static_cast<int64_t>(linear << 16) >> 16) != linear)
    throw Exception::general_protection();
}

// Outside long mode a linear address has 32 bits: what goes past the end comes in at 0.
uint64_t Mmu::wrap(uint64_t linear) const {
  return (mode_.efer & efer::kLma) != 0 ? linear : linear & 0xFFFF'FFFF;
}

// Comes before page faults, as processors have it, but not before addresses that do not exist.
void Mmu::check_alignment(uint64_t linear, uint64_t mask) const {
  if (!check_alignment_ || (linear & mask) == 0) return;
  check_canonical(linear);
  throw Exception::with_code(Vector::kAlignmentCheck, 0);
}

void Mmu::note_entry_writes() {
  for (unsigned i = 0; i < walker_.entry_write_count(); ++i) {
    const auto& write = walker_.entry_writes()[i];
    note_store(write.page, write.offset, 8);
  }
}

void Mmu::note_store(uint32_t ram_page, uint32_t offset, uint32_t size) {
  // Another processor that decodes marks before it reads: either it sees this store, or this the
  // mark.
  if (code_->is_shared()) std::atomic_thread_fence(std::memory_order_seq_cst);
  CodeMap& map = code_->map();
  if (!map.holds_code(ram_page, offset, std::min<uint32_t>(size, 4096 - offset))) return;
  // Nothing decoded from the page is valid any more, so stores to it may be fast again. In this
  // order: see watch_code().
  map.clear(ram_page);
  ram_.note_code_changed(ram_page);
  code_->announce_change(index_);
  code_written = true;
  *code_write_signal_ = true;
  code_written_page = ram_page;
}

// Translates the part of an access that lies in one page; fills the TLB where the page may have an
// entry.
Mmu::Piece Mmu::resolve(uint64_t linear, uint32_t size, Access access, View view) {
  check_canonical(linear);
  const uint64_t tag = linear & ~kPageOffset;
  const DataEntry& entry = entry_for(linear, view);
  if ((access == Access::kWrite ? entry.write_tag : entry.read_tag) == tag) {
    std::byte* host = entry.host + (linear & kPageOffset);
    return {host, linear & kPageOffset, tlb_.ram_page(linear, view), size};
  }

  const Translation page = walker_.walk(linear, access, view);
  if (walker_.entry_write_count() != 0) note_entry_writes();
  const RamMap::Location location = map_.find(page.physical);
  if (access == Access::kWrite && !location.writable)
    return {.physical = page.physical, .size = size};
  const Piece piece{location.host, page.physical, location.page, size};
  if (location.host == nullptr) return piece;

  const bool watched = watchpoints_.any();
  if (watched && watchpoints_.watches_page(linear, false)) return piece;
  // Without D set, the first store must come here to set it (SDM Vol. 3A 4.8).
  const bool writable = page.dirty && location.writable &&
                        walker_.permits(page, Access::kWrite, view) &&
                        !(watched && watchpoints_.watches_page(linear, true)) &&
                        code_->may_write(index_, location.page, access);
  tlb_.fill_data(linear, view, page, location, writable);
  return piece;
}

void Mmu::note_watched(uint64_t linear, uint64_t size, bool write) {
  watch_hits_ |= watchpoints_.hits(linear, size, write);
  // The debugger sees the state right behind the instruction.
  if (has_debugger_hits()) *code_write_signal_ = true;
}

namespace {

/// Copies as one access where the processor would: another may look at the bytes meanwhile, and
/// memcpy of a size that it does not know may write some of them twice.
void copy_whole(std::byte* to, const std::byte* from, uint32_t size) {
  switch (size) {
    case 1:
      std::memcpy(to, from, 1);
      break;
    case 2:
      std::memcpy(to, from, 2);
      break;
    case 4:
      std::memcpy(to, from, 4);
      break;
    case 8:
      std::memcpy(to, from, 8);
      break;
    default:
      std::memcpy(to, from, size);
      break;
  }
}

}  // namespace

void Mmu::read_piece(const Piece& piece, std::byte* into) {
  if (piece.host != nullptr) {
    copy_whole(into, piece.host, piece.size);
    return;
  }
  // Devices take 1, 2, 4 or 8 bytes at a time.
  for (uint32_t done = 0; done < piece.size;) {
    const uint32_t left = piece.size - done;
    const uint32_t size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    const uint64_t value = mmio_.read(piece.physical + done, size);
    std::memcpy(into + done, &value, size);
    done += size;
  }
}

void Mmu::write_piece(const Piece& piece, const std::byte* from) {
  if (piece.host != nullptr) {
    copy_whole(piece.host, from, piece.size);
    note_store(piece.ram_page, static_cast<uint32_t>(piece.physical & kPageOffset), piece.size);
    return;
  }
  for (uint32_t done = 0; done < piece.size;) {
    const uint32_t left = piece.size - done;
    const uint32_t size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    uint64_t value = 0;
    std::memcpy(&value, from + done, size);
    mmio_.write(piece.physical + done, size, value);
    done += size;
  }
}

void Mmu::probe_pages(uint64_t linear, uint64_t size, Access access, View view) {
  for (uint64_t done = 0; done < size;) {
    const uint64_t address = wrap(linear + done);
    const uint64_t part = std::min(size - done, 4096 - (address & kPageOffset));
    resolve(address, static_cast<uint32_t>(part), access, view);
    done += part;
  }
}

void Mmu::read_slow(uint64_t linear, void* into, uint64_t size, View view, uint64_t alignment) {
  if (size == 0) return;
  auto* bytes = static_cast<std::byte*>(into);
  linear = wrap(linear);
  check_alignment(linear, alignment);
  const uint64_t in_page = 4096 - (linear & kPageOffset);
  if (size <= in_page) {
    const Piece piece = resolve(linear, static_cast<uint32_t>(size), Access::kRead, view);
    read_piece(piece, bytes);
  } else {
    // Both pages must be there before a device sees the first byte.
    probe_pages(linear, size, Access::kRead, view);
    for (uint64_t done = 0; done < size;) {
      const uint64_t address = wrap(linear + done);
      const uint64_t part = std::min(size - done, 4096 - (address & kPageOffset));
      read_piece(resolve(address, static_cast<uint32_t>(part), Access::kRead, view), bytes + done);
      done += part;
    }
  }
  if (watchpoints_.any()) [[unlikely]]
    note_watched(linear, size, false);
}

void Mmu::write_slow(uint64_t linear, const void* from, uint64_t size, View view,
                     uint64_t alignment) {
  if (size == 0) return;
  const auto* bytes = static_cast<const std::byte*>(from);
  linear = wrap(linear);
  check_alignment(linear, alignment);
  const uint64_t in_page = 4096 - (linear & kPageOffset);
  if (size <= in_page) {
    const Piece piece = resolve(linear, static_cast<uint32_t>(size), Access::kWrite, view);
    write_piece(piece, bytes);
  } else {
    probe_pages(linear, size, Access::kWrite, view);
    for (uint64_t done = 0; done < size;) {
      const uint64_t address = wrap(linear + done);
      const uint64_t part = std::min(size - done, 4096 - (address & kPageOffset));
      write_piece(resolve(address, static_cast<uint32_t>(part), Access::kWrite, view),
                  bytes + done);
      done += part;
    }
  }
  if (watchpoints_.any()) [[unlikely]]
    note_watched(linear, size, true);
}

uint64_t Mmu::read_integer_slow(uint64_t linear, uint64_t size, View view, uint64_t alignment) {
  uint64_t value = 0;
  read_slow(linear, &value, size, view, alignment);
  return value;
}

void Mmu::write_integer_slow(uint64_t linear, uint64_t value, uint64_t size, View view,
                             uint64_t alignment) {
  write_slow(linear, &value, size, view, alignment);
}

std::byte* Mmu::host_slow(uint64_t linear, unsigned size, Access access) {
  linear = wrap(linear);
  check_alignment(linear, alignment_mask(size));
  if (size > 4096 - (linear & kPageOffset)) return nullptr;
  const Piece piece = resolve(linear, size, access, view_);
  const DataEntry& entry = entry_for(linear, view_);
  const uint64_t tag = access == Access::kWrite ? entry.write_tag : entry.read_tag;
  return tag == (linear & ~kPageOffset) ? piece.host : nullptr;
}

Mmu::LockedPlace Mmu::place_for_locked(uint64_t linear, unsigned size) {
  linear = wrap(linear);
  check_alignment(linear, alignment_mask(size));
  LockedPlace place{.linear = linear, .size = size};
  const auto in_page = static_cast<uint32_t>(4096 - (linear & kPageOffset));
  if (size > in_page) probe_pages(linear, size, Access::kWrite, view_);
  const Piece first = resolve(linear, std::min(size, in_page), Access::kWrite, view_);
  place.ram_pages = {first.ram_page, first.ram_page};
  place.host = first.host;
  if (size <= in_page || first.host == nullptr) return place;
  const Piece second = resolve(wrap(linear + in_page), size - in_page, Access::kWrite, view_);
  place.ram_pages[1] = second.ram_page;
  if (second.host != first.host + in_page) place.host = nullptr;
  return place;
}

void Mmu::wrote_locked(const LockedPlace& place) {
  const auto offset = static_cast<uint32_t>(place.linear & kPageOffset);
  note_store(place.ram_pages[0], offset, place.size);
  if (offset + place.size > 4096) note_store(place.ram_pages[1], 0, offset + place.size - 4096);
  if (watchpoints_.any()) [[unlikely]] {
    note_watched(place.linear, place.size, false);
    note_watched(place.linear, place.size, true);
  }
}

uint8_t Mmu::change_byte_supervisor(uint64_t linear, uint8_t clear, uint8_t set) {
  linear = wrap(linear);
  const Piece piece = resolve(linear, 1, Access::kWrite, implicit_view_);
  const auto change = [&](uint8_t byte) { return static_cast<uint8_t>((byte & ~clear) | set); };
  if (piece.host == nullptr) {
    const uint8_t byte = change(read_supervisor<uint8_t>(linear));
    write_supervisor(linear, byte);
    return byte;
  }
  auto* host = reinterpret_cast<uint8_t*>(piece.host);
  uint8_t old = __atomic_load_n(host, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(host, &old, change(old), true, __ATOMIC_SEQ_CST,
                                      __ATOMIC_RELAXED)) {
  }
  note_store(piece.ram_page, static_cast<uint32_t>(linear & kPageOffset), 1);
  if (watchpoints_.any()) [[unlikely]] {
    note_watched(linear, 1, false);
    note_watched(linear, 1, true);
  }
  return change(old);
}

void Mmu::mark_code(uint64_t ram_page, uint32_t offset, std::span<const uint8_t> bytes) {
  const bool first = code_->map().mark(ram_page, offset, static_cast<uint32_t>(bytes.size()));
  if (!code_->is_shared()) {
    if (first) tlb_.protect(static_cast<uint32_t>(ram_page));
    return;
  }
  // A store of another processor's between the reading and the mark told nobody.
  if (std::memcmp(ram_.page_data(ram_page) + offset, bytes.data(), bytes.size()) == 0) return;
  ram_.note_code_changed(ram_page);
  if (attention_ != nullptr) attention_->call();
}

void Mmu::probe_slow(uint64_t linear, uint64_t size, Access access) {
  check_alignment(wrap(linear), alignment_mask(size));
  probe_pages(wrap(linear), size, access, view_);
}

FetchResult Mmu::fetch_slow(uint64_t linear) {
  linear = wrap(linear);
  check_canonical(linear);
  const View view = mode_.user ? View::kUser : View::kSupervisor;
  const Translation page = walker_.walk(linear, Access::kExecute, view);
  if (walker_.entry_write_count() != 0) note_entry_writes();
  const RamMap::Location location = map_.find(page.physical & ~kPageOffset);
  const FetchResult result{.host_page = reinterpret_cast<const uint8_t*>(location.host),
                           .ram_page = location.page,
                           .page = {page.physical & ~kPageOffset},
                           .page_shift = page.page_shift,
                           .global = page.global};
  tlb_.fill_fetch(linear, mode_.user, page, result);
  return result;
}

void Mmu::read_physical(GuestPhysicalAddress address, std::span<std::byte> into) {
  for (auto& byte : into) {
    const auto location = map_.find(address.value);
    byte = location.host != nullptr ? *location.host
                                    : static_cast<std::byte>(mmio_.read(address.value, 1));
    address = address + 1;
  }
}

}  // namespace limen::soft
