// What changes the view of memory for translated code: built without vector instructions, as
// quick_fill.cc is.
#include "soft/mmu/mmu.h"

namespace limen::soft {

using namespace x86;  // NOLINT(google-build-using-namespace): register bits by the dozen

namespace {

/// Made by the compiler: no machine that has no use for it pays for its pages.
constexpr DataBank kEmptyBank = DataBank::empty();

}  // namespace

void Mmu::select_view() {
  const bool smap = (mode_.cr4 & cr4::kSmap) != 0;
  implicit_view_ = smap ? View::kSupervisorSmap : View::kSupervisor;
  if (mode_.user)
    view_ = View::kUser;
  else
    view_ = mode_.alignment_check ? View::kSupervisor : implicit_view_;
  check_alignment_ = mode_.user && mode_.alignment_check && (mode_.cr0 & cr0::kAlignmentMask) != 0;
  if (check_alignment_) tlb_.forget_stacks();
  data_ = check_alignment_ ? kEmptyBank.entries.data() : tlb_.data(view_).entries.data();
  implicit_data_ = tlb_.data(implicit_view_).entries.data();
  const FetchEntry* const inner = tlb_.fetch(false).entries.data();
  const FetchEntry* const outer = tlb_.fetch(true).entries.data();
  choices_[0] = {implicit_data_, inner, implicit_view_};
  choices_[1] = {tlb_.data(View::kSupervisor).entries.data(), inner, View::kSupervisor};
  choices_[2] = {tlb_.data(View::kUser).entries.data(), outer, View::kUser};
  fetch_ = mode_.user ? outer : inner;
}

bool Mmu::quick_load_cr3(uint64_t value, bool keep) noexcept {
  if (!walker_.quick_load_cr3(value)) return false;
  mode_.cr3 = value;
  const bool pcide = (mode_.cr4 & cr4::kPcide) != 0;
  tlb_.select(static_cast<uint16_t>(pcide ? value & kPcidMask : 0));
  if (!keep || !pcide) tlb_.flush_current();
  select_view();
  return true;
}

void Mmu::invalidate_page(uint64_t linear) {
  if ((mode_.efer & efer::kLma) == 0 || is_canonical(linear)) tlb_.flush_page(linear);
}

}  // namespace limen::soft
