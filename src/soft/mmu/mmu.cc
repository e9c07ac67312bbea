#include "soft/mmu/mmu.h"

#include <bit>

namespace limen::soft {

using namespace x86;  // NOLINT(google-build-using-namespace): register bits by the dozen

Mmu::Mmu(memory::GuestMemory& ram, memory::IoSpace& mmio, CodeSharing* code, unsigned index)
    : ram_(ram),
      mmio_(mmio),
      map_(ram),
      walker_(map_, mmio),
      tlb_(ram.page_count()),
      own_code_(code == nullptr ? std::make_unique<CodeSharing>(ram.page_count()) : nullptr),
      code_(code == nullptr ? own_code_.get() : code),
      index_(index) {
  code_->join(index_, tlb_);
  walker_.set_registers(0, 0, 0, 0);
  select_view();
  ram_.add_listener(*this);
}

Mmu::~Mmu() { ram_.remove_listener(*this); }

void Mmu::mappings_changed() {
  mappings_stale_.store(true, std::memory_order_release);
  if (thread_.load(std::memory_order_relaxed) == std::this_thread::get_id())
    *code_write_signal_ = true;
  if (attention_ != nullptr) attention_->call();
}

void Mmu::take_mappings() {
  mappings_stale_.store(false, std::memory_order_seq_cst);  // before the look
  map_.refresh();
  tlb_.flush_all();
}

void Mmu::configure(unsigned physical_address_bits, bool gigabyte_pages) {
  walker_.configure(physical_address_bits, gigabyte_pages);
  walker_.set_registers(mode_.cr0, mode_.cr3, mode_.cr4, mode_.efer);
  tlb_.flush_all();
}

void Mmu::change_paging(const MmuMode& mode) {
  const PagingMode before = walker_.mode();
  walker_.set_registers(mode.cr0, mode.cr3, mode.cr4, mode.efer);
  if (walker_.mode() == PagingMode::kPae && (before != PagingMode::kPae || mode.cr3 != mode_.cr3)) {
    // MOV CR has checked the entries; a state that was loaded whole keeps the old ones if bad.
    [[maybe_unused]] const bool valid = walker_.load_pdptes(mode.cr3);
  }
  const bool only_cr3 = ((mode.cr0 ^ mode_.cr0) & kCr0Bits) == 0 &&
                        ((mode.cr4 ^ mode_.cr4) & kCr4Bits) == 0 &&
                        ((mode.efer ^ mode_.efer) & kEferBits) == 0;
  const bool pcide = (mode.cr4 & cr4::kPcide) != 0;
  tlb_.select(static_cast<uint16_t>(pcide ? mode.cr3 & kPcidMask : 0));
  if (only_cr3)
    tlb_.flush_current();
  else
    tlb_.flush_all();
}

bool Mmu::load_cr3(uint64_t value, bool keep) {
  if (!walker_.valid_cr3(value)) return false;
  if (walker_.mode() == PagingMode::kPae && !walker_.load_pdptes(value)) return false;
  mode_.cr3 = value;
  walker_.set_registers(mode_.cr0, mode_.cr3, mode_.cr4, mode_.efer);
  const bool pcide = (mode_.cr4 & cr4::kPcide) != 0;
  tlb_.select(static_cast<uint16_t>(pcide ? value & kPcidMask : 0));
  if (!keep || !pcide) tlb_.flush_current();
  select_view();
  return true;
}

bool Mmu::invalidate_pcid(uint64_t type, uint64_t pcid, uint64_t linear) {
  if (type > 3 || (pcid & ~kPcidMask) != 0) return false;
  const bool pcide = (mode_.cr4 & cr4::kPcide) != 0;
  if (type <= 1 && !pcide && pcid != 0) return false;
  const auto context = static_cast<uint16_t>(pcid);
  switch (type) {
    case 0:
      if (!is_canonical(linear)) return false;
      tlb_.flush_page(context, linear);
      break;
    case 1:
      tlb_.flush_context(context);
      break;
    case 2:
      tlb_.flush_all();
      break;
    default:
      tlb_.flush_all_but_global();
      break;
  }
  return true;
}

void Mmu::set_watchpoints(const std::array<uint64_t, 8>& debug_registers) {
  if (watchpoints_.set(debug_registers)) tlb_.flush_all();
}

void Mmu::set_debugger_watchpoints(std::span<const vcpu::Watchpoint> watchpoints) {
  if (watchpoints_.set_debugger(watchpoints)) tlb_.flush_all();
  watch_hits_ &= Watchpoints::kGuestHits;
}

vcpu::Watchpoint Mmu::take_debugger_hit() {
  const auto index = std::countr_zero(watch_hits_ >> Watchpoints::kDebuggerShift);
  watch_hits_ &= Watchpoints::kGuestHits;
  return watchpoints_.of_debugger(static_cast<size_t>(index));
}

std::optional<GuestPhysicalAddress> Mmu::translate(uint64_t linear) const {
  const auto page = walker_.peek(linear);
  if (!page) return std::nullopt;
  return GuestPhysicalAddress{page->physical};
}

}  // namespace limen::soft
