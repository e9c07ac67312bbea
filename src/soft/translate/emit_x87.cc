// What goes with x87 and MMX instructions, which are re-emitted as all others: the guest's state
// must be in the host's registers, and the pointers that the host notes are not the guest's.
#include <algorithm>

#include "soft/translate/emitter.h"

namespace limen::soft::translate {

/// One check for all that follow, up to where the block may be entered after the state was stored:
/// behind a poll, and behind what the interpreter runs.
void Emitter::place_x87_checks(std::span<Item> items, size_t poll_at,
                               std::span<const Window> windows) {
  if (const auto polls = std::ranges::find(windows, true, &Window::polls); polls != windows.end())
    poll_at = polls->item;
  bool checked = false;
  size_t last = 0;  // that is known to count on the check
  for (size_t i = 0; i < items.size(); ++i) {
    Item& item = items[i];
    item.checks_x87 = item.inside_x87 = false;
    if (i == poll_at || (i > 0 && items[i - 1].kind == Kind::kInterpret)) checked = false;
    if (item.x87 == X87::kNothing) continue;
    item.checks_x87 = !checked;
    if (checked)
      for (size_t inside = last + 1; inside <= i; ++inside) items[inside].inside_x87 = true;
    checked = true;
    last = i;
  }
}

void Emitter::emit_x87_check(const Item& item) {
  Cold cold{.what = Cold::What::kLoadX87, .index = index_};
  r10_window_ = r11_window_ = 0;
  if (!item.flags_live) {
    out_.cpu_cmp8(layout_.x87.away, 0);
    cold.place = out_.jump_if(Condition::kNotEqual);
  } else {
    constexpr unsigned kMissSize = 8;
    out_.mov(kR10, kRcx);
    out_.cpu_load8(kRcx, layout_.x87.away);
    out_.byte(0xE3);  // JRCXZ over the miss
    out_.byte(kMissSize);
    out_.mov(kRcx, kR10);
    cold.place = out_.jump();
    out_.mov(kRcx, kR10);
  }
  cold.resume = out_.here();
  cold_.push_back(cold);
}

void Emitter::emit_x87_load(const Cold& cold) {
  constexpr unsigned kJumpSize = 5;
  cold_out_.lea_relative(kR11, kJumpSize);
  cold_out_.jump(trampolines_.load_x87);
  emit_call_site(cold_out_, call_site(cold));
}

/// Behind the first of `items`, for one that faults is not told of; and once for a row of them, if
/// none is left but for an exception that is pending: then the host's own pointers tell.
void Emitter::note_x87(std::span<const Item> items, std::span<const Window> windows) {
  if (items[0].has_memory) x87_data_ = &items[0];
  if (items.size() > 1) {
    const Item& next = items[1];
    const bool may_miss = (next.has_memory && next.window == 0) ||
                          (!windows.empty() && windows.front().item == index_ + 1u);
    if (next.x87 == X87::kIsNoted && !next.checks_x87 && !may_miss) return;
  }
  if (x87_data_ != nullptr && x87_data_->window != 0) {
    const Address& address = x87_data_->address;
    const int32_t displacement = x87_data_->displacement;
    const Reg index = address.index == kNoGeneral ? kRsp : static_cast<Reg>(address.index);
    r11_window_ = 0;  // R10 may be of more use
    if (address.base == kNoGeneral)
      out_.lea_index(kR11, index, address.scale, displacement);
    else
      out_.lea(kR11, static_cast<Reg>(address.base), index, address.scale, displacement);
    out_.cpu_store(layout_.x87.data, kR11);
  } else if (x87_data_ != nullptr) {
    effective_address(*x87_data_);
    out_.cpu_store(layout_.x87.data, kR10);
  }
  x87_data_ = nullptr;
  out_.cpu_move32(layout_.x87.site, make_site(id_, index_));
}

}  // namespace limen::soft::translate
