#include "soft/mmu/tlb.h"

#include <sys/mman.h>

#include <new>
#include <utility>

namespace limen::soft {

namespace {

constexpr auto kBankSize = static_cast<uint32_t>(DataBank::kMask + 1);

// Spreads page numbers over the 256 bits of a filter.
size_t filter_bit(uint64_t page_number) { return (page_number * 0x9E37'79B9'7F4A'7C15) >> 56; }

}  // namespace

void Tlb::LargePages::add(uint64_t linear, unsigned shift) {
  for (size_t i = 0; i < kShifts.size(); ++i) {
    if (kShifts[i] != shift) continue;
    const size_t bit = filter_bit(linear >> shift);
    bits[i][bit / 64] |= uint64_t{1} << (bit % 64);
  }
}

bool Tlb::LargePages::may_hold(uint64_t linear, size_t size_index) const {
  const size_t bit = filter_bit(linear >> kShifts[size_index]);
  return (bits[size_index][bit / 64] >> (bit % 64) & 1) != 0;
}

void Tlb::Slot::begin() {
  for (auto& bank : data) bank.begin();
  for (auto& bank : fetch) bank.begin();
  used = true;
}

void Tlb::Slot::flush_local() {
  for (auto& bank : data) bank.flush_local();
  for (auto& bank : fetch) bank.flush_local();
  large_local = {};
}

void Tlb::Slot::flush_all() {
  for (auto& bank : data) bank.flush_all();
  for (auto& bank : fetch) bank.flush_all();
  large_local = large_global = {};
}

void Tlb::Slot::flush_page(uint64_t linear, bool globals_only) {
  for (auto& bank : data) bank.flush_page(linear, globals_only);
  for (auto& bank : fetch) bank.flush_page(linear, globals_only);
  for (size_t i = 0; i < LargePages::kShifts.size(); ++i) {
    if (!large_global.may_hold(linear, i) && (globals_only || !large_local.may_hold(linear, i)))
      continue;
    const unsigned shift = LargePages::kShifts[i];
    for (auto& bank : data) bank.flush_range(linear, shift, globals_only);
    for (auto& bank : fetch) bank.flush_range(linear, shift, globals_only);
  }
}

void Tlb::CodePages::add(uint64_t linear, unsigned shift) {
  const uint64_t hash = ((linear >> shift) + shift) * 0x9E37'79B9'7F4A'7C15 >> 52;
  bits[hash / 64] |= uint64_t{1} << (hash % 64);
}

bool Tlb::CodePages::may_hold(uint64_t linear) const {
  for (const unsigned shift : {12u, 21u, 22u, 30u}) {
    const uint64_t hash = ((linear >> shift) + shift) * 0x9E37'79B9'7F4A'7C15 >> 52;
    if ((bits[hash / 64] >> (hash % 64) & 1) != 0) return true;
  }
  return false;
}

Tlb::Slots* Tlb::map_slots() {
  // Memory of zeros, and an aggregate is there by itself (C++20, [intro.object] 11).
  void* const slots =
      ::mmap(nullptr, sizeof(Slots), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (slots == MAP_FAILED) throw std::bad_alloc();
  return static_cast<Slots*>(slots);
}

void Tlb::Unmap::operator()(Slots* slots) const { ::munmap(slots, sizeof(Slots)); }

Tlb::Tlb(uint64_t ram_pages)
    : slots_(map_slots()), current_(&slots_->front()), first_writable_(ram_pages) {
  current_->begin();
  current_->code_epoch = epochs_.local;
}

void Tlb::rely_on_code_page(uint64_t linear, const FetchResult& page) {
  (page.global ? global_code_pages_ : current_->code_pages).add(linear, page.page_shift);
}

uint64_t Tlb::next_epoch() {
  if (last_epoch_ == kLastEpoch) {
    last_epoch_ = 0;
    for (auto& slot : *slots_) slot.code_epoch = ++last_epoch_;
    epochs_ = {.local = current_->code_epoch, .global = ++last_epoch_};
    if (epoch_listener_.forget != nullptr) epoch_listener_.forget(epoch_listener_.context);
  }
  return ++last_epoch_;
}

void Tlb::new_code_epoch(Slot& slot) {
  slot.code_epoch = next_epoch();
  slot.code_pages.clear();
  if (&slot == current_) epochs_.local = slot.code_epoch;
}

void Tlb::new_global_code_epoch() {
  epochs_.global = next_epoch();
  global_code_pages_.clear();
}

void Tlb::flush_local(Slot& slot) {
  slot.flush_local();
  new_code_epoch(slot);
}

void Tlb::flush_code_page(Slot& slot, uint64_t linear) {
  if (slot.code_pages.may_hold(linear)) new_code_epoch(slot);
}

Tlb::Slot* Tlb::find(uint16_t pcid) {
  for (auto& slot : *slots_)
    if (slot.used && slot.pcid == pcid) return &slot;
  return nullptr;
}

void Tlb::select(uint16_t pcid) {
  forget_stacks();
  if (current_->pcid != pcid) {
    Slot* slot = find(pcid);
    if (slot == nullptr) {
      slot = &slots_->front();
      for (auto& other : *slots_)
        if (other.last_use < slot->last_use) slot = &other;
      flush_local(*slot);
      ++flushes_;
      slot->pcid = pcid;
      if (!slot->used) slot->begin();
    }
    current_ = slot;
    epochs_.local = slot->code_epoch;
  }
  current_->last_use = ++use_count_;
}

uint32_t Tlb::place_of(View view, uint64_t linear) const {
  const auto slot = static_cast<uint32_t>(current_ - slots_->data());
  const uint32_t bank = slot * kViews + static_cast<uint32_t>(view);
  return bank * kBankSize + static_cast<uint32_t>(DataBank::index(linear)) + 1;
}

DataBank& Tlb::bank_of(uint32_t place) {
  const uint32_t bank = (place - 1) / kBankSize;
  return (*slots_)[bank / kViews].data[bank % kViews];
}

DataOrigin& Tlb::origin_at(uint32_t place) {
  return bank_of(place).origins[(place - 1) & DataBank::kMask];
}

void Tlb::unlist(uint32_t place) {
  DataOrigin& origin = origin_at(place);
  const uint32_t next = std::exchange(origin.next_writable, 0);
  if (next == 0) return;
  uint32_t& first = first_writable_[origin.ram_page];
  if (first == place) {
    first = next == kEnd ? 0 : next;
    return;
  }
  uint32_t at = first;
  while (origin_at(at).next_writable != place) at = origin_at(at).next_writable;
  origin_at(at).next_writable = next;
}

void Tlb::fill_data(uint64_t linear, View view, const Translation& page, RamMap::Location ram,
                    bool writable) {
  ++fills_.data;
  if (linear >> 32 != 0) current_->wide[static_cast<size_t>(view)] = true;
  const uint64_t tag = linear & ~kPageOffset;
  const uint32_t place = place_of(view, linear);
  DataEntry& entry = data(view).take(linear, page.global);
  unlist(place);
  entry.read_tag = tag;
  entry.write_tag = writable ? tag : DataBank::no_tag(DataBank::index(linear));
  entry.host = ram.host - (linear & kPageOffset);
  entry.difference = reinterpret_cast<uint64_t>(entry.host) - tag;
  DataOrigin& origin = origin_at(place);
  origin.ram_page = ram.page;
  if (page.page_shift != 12)
    (page.global ? current_->large_global : current_->large_local).add(linear, page.page_shift);
  if (!writable) return;
  uint32_t& first = first_writable_[ram.page];
  origin.next_writable = first == 0 ? kEnd : first;
  first = place;
}

void Tlb::forget_wide_pages(View view) {
  if (!std::exchange(current_->wide[static_cast<size_t>(view)], false)) return;
  forget_stacks();
  data(view).drop_if([](const DataEntry& entry) { return entry.page() >> 32 != 0; });
}

void Tlb::fill_fetch(uint64_t linear, bool user, const Translation& page,
                     const FetchResult& result) {
  ++fills_.fetch;
  FetchEntry& entry = fetch(user).take(linear, page.global);
  entry.tag = linear & ~kPageOffset;
  entry.result = result;
  if (page.page_shift != 12)
    (page.global ? current_->large_global : current_->large_local).add(linear, page.page_shift);
}

void Tlb::flush_all() {
  forget_stacks();
  ++flushes_;
  for (auto& slot : *slots_) {
    if (slot.used) slot.flush_all();
    new_code_epoch(slot);
  }
  new_global_code_epoch();
}

void Tlb::flush_all_but_global() {
  forget_stacks();
  ++flushes_;
  for (auto& slot : *slots_) flush_local(slot);
}

void Tlb::flush_context(uint16_t pcid) {
  forget_stacks();
  ++flushes_;
  if (Slot* slot = find(pcid)) flush_local(*slot);
}

void Tlb::flush_current() {
  forget_stacks();
  ++flushes_;
  flush_local(*current_);
}

void Tlb::flush_page(uint64_t linear) {
  forget_stacks();
  ++flushes_;
  for (auto& slot : *slots_)
    if (slot.used) slot.flush_page(linear, &slot != current_);
  flush_code_page(*current_, linear);
  if (global_code_pages_.may_hold(linear)) new_global_code_epoch();
}

void Tlb::flush_page(uint16_t pcid, uint64_t linear) {
  forget_stacks();
  ++flushes_;
  Slot* slot = find(pcid);
  if (slot == nullptr) return;
  slot->flush_page(linear, false);
  flush_code_page(*slot, linear);
  // What it drops may have been entered as global (SDM Vol. 3A 4.10.4.1).
  if (global_code_pages_.may_hold(linear)) new_global_code_epoch();
}

void Tlb::protect(uint32_t ram_page) {
  forget_stacks();
  uint32_t place = std::exchange(first_writable_[ram_page], 0);
  while (place != 0 && place != kEnd) {
    const uint32_t index = (place - 1) & DataBank::kMask;
    DataBank& bank = bank_of(place);
    bank.entries[index].write_tag = DataBank::no_tag(index);
    place = std::exchange(bank.origins[index].next_writable, 0);
  }
}

}  // namespace limen::soft
