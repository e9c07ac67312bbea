#include "soft/mmu/tlb.h"

namespace limen::soft {

namespace {

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

Tlb::Tlb(uint64_t ram_pages)
    : slots_(std::make_unique<std::array<Slot, kSlots>>()),
      current_(&slots_->front()),
      writable_at_(ram_pages) {
  current_->used = true;
}

Tlb::Slot* Tlb::find(uint16_t pcid) {
  for (auto& slot : *slots_)
    if (slot.used && slot.pcid == pcid) return &slot;
  return nullptr;
}

void Tlb::select(uint16_t pcid) {
  if (current_->pcid != pcid) {
    Slot* slot = find(pcid);
    if (slot == nullptr) {
      slot = &slots_->front();
      for (auto& other : *slots_)
        if (other.last_use < slot->last_use) slot = &other;
      slot->flush_local();
      ++flushes_;
      slot->pcid = pcid;
      slot->used = true;
    }
    current_ = slot;
  }
  current_->last_use = ++use_count_;
}

DataEntry& Tlb::entry_at(uint32_t place) {
  const uint32_t bank = (place - 1) / 1024;
  return (*slots_)[bank / kViews].data[bank % kViews].entries[(place - 1) % 1024];
}

void Tlb::fill_data(uint64_t linear, View view, const Translation& page, RamMap::Location ram,
                    bool writable) {
  const uint64_t tag = linear & ~kPageOffset;
  DataEntry& entry = data(view).take(linear, page.global);
  entry.read_tag = tag;
  entry.write_tag = writable ? tag : kNoTag;
  entry.addend = reinterpret_cast<uint64_t>(ram.host) - linear;
  entry.ram_page = ram.page;
  if (page.page_shift != 12)
    (page.global ? current_->large_global : current_->large_local).add(linear, page.page_shift);
  if (!writable) return;

  const auto slot = static_cast<uint32_t>(current_ - slots_->data());
  const uint32_t bank = slot * kViews + static_cast<uint32_t>(view);
  const auto place = static_cast<uint32_t>(bank * 1024 + DataBank::index(linear) + 1);
  uint32_t& known = writable_at_[ram.page];
  if (known != kNowhere && known != kManyPlaces && known != place) {
    const DataEntry& other = entry_at(known);
    if (other.write_tag != kNoTag && other.ram_page == ram.page) {
      known = kManyPlaces;
      return;
    }
  }
  if (known != kManyPlaces) known = place;
}

void Tlb::fill_fetch(uint64_t linear, bool user, const Translation& page,
                     const FetchResult& result) {
  FetchEntry& entry = fetch(user).take(linear, page.global);
  entry.tag = linear & ~kPageOffset;
  entry.result = result;
  if (page.page_shift != 12)
    (page.global ? current_->large_global : current_->large_local).add(linear, page.page_shift);
}

void Tlb::flush_all() {
  ++flushes_;
  for (auto& slot : *slots_) slot.flush_all();
}

void Tlb::flush_all_but_global() {
  ++flushes_;
  for (auto& slot : *slots_) slot.flush_local();
}

void Tlb::flush_context(uint16_t pcid) {
  ++flushes_;
  if (Slot* slot = find(pcid)) slot->flush_local();
}

void Tlb::flush_current() {
  ++flushes_;
  current_->flush_local();
}

void Tlb::flush_page(uint64_t linear) {
  ++flushes_;
  for (auto& slot : *slots_)
    if (slot.used) slot.flush_page(linear, &slot != current_);
}

void Tlb::flush_page(uint16_t pcid, uint64_t linear) {
  ++flushes_;
  if (Slot* slot = find(pcid)) slot->flush_page(linear, false);
}

void Tlb::protect(uint32_t ram_page) {
  uint32_t& known = writable_at_[ram_page];
  if (known == kNowhere) return;
  if (known != kManyPlaces) {
    DataEntry& entry = entry_at(known);
    if (entry.ram_page == ram_page) entry.write_tag = kNoTag;
  } else {
    for (auto& slot : *slots_)
      for (auto& bank : slot.data)
        for (auto& entry : bank.entries)
          if (entry.ram_page == ram_page) entry.write_tag = kNoTag;
  }
  known = kNowhere;
}

}  // namespace limen::soft
