#include "soft/translate/emitter.h"

#include <algorithm>
#include <bit>

namespace limen::soft::translate {
namespace {

constexpr uint16_t kSpilled = (1u << kR10) | (1u << kR11);

}  // namespace

CpuLayout::CpuLayout(const Cpu& of) : system(of) {
  const auto displacement = [&](const auto& field) {
    return static_cast<int32_t>(reinterpret_cast<const char*>(&field) -
                                reinterpret_cast<const char*>(&of));
  };
  const Context& context = of.generated;
  gprs = displacement(of.gpr);
  rip = displacement(of.rip);
  flags_low = displacement(of.flags_low);
  flags_overflow = displacement(of.flags_overflow);
  attention = displacement(of.attention);
  data_bank = displacement(*of.mmu.data_bank());
  for (unsigned i = 0; i < 2; ++i) stack_page[i] = displacement(of.mmu.stack_pages()[i]);
  page_mask = displacement(context.page_mask);
  fs_base = displacement(of.system.segments[x86::kFs].base);
  gs_base = displacement(of.system.segments[x86::kGs].base);
  local_epoch = displacement(of.mmu.code_epochs().local);
  global_epoch = displacement(of.mmu.code_epochs().global);
  vector = displacement(of.vector.zmm);
  opmask = displacement(of.vector.opmask);
  mxcsr = displacement(of.vector.fxsave) + 24;
  saved_rax = displacement(context.saved_rax);
  temporary = displacement(context.temporary);
  for (unsigned i = 0; i < 2; ++i) scratch[i] = displacement(context.scratch[i]);
  code = displacement(context.code);
  windows = displacement(context.windows);
  passes = displacement(context.passes);
  first_round = displacement(context.first_round);
  host_rsp = displacement(context.host_rsp);
  scratch_mxcsr = displacement(context.scratch_mxcsr);
  default_mxcsr = displacement(context.default_mxcsr);
  cpu = displacement(context.cpu);
  on_miss = displacement(context.on_miss);
  on_string = displacement(context.on_string);
  on_revalidate = displacement(context.on_revalidate);
  on_lookup = displacement(context.on_lookup);
  flags_rest = displacement(of.flags_rest);
  kernel_gs_base = displacement(of.system.kernel_gs_base);
  tsc_offset = displacement(of.system.tsc_offset);
  tsc_aux = displacement(of.system.tsc_aux);
  const Mmu::AcSwitch slots = of.mmu.ac_switch();
  for (unsigned i = 0; i < 2; ++i) {
    ac.chosen_data[i] = displacement(*slots.chosen_data[i]);
    ac.chosen_view[i] = displacement(*slots.chosen_view[i]);
  }
  ac.data = displacement(*slots.data);
  ac.view = displacement(*slots.view);
  ac.alignment_check = displacement(*slots.alignment_check);
  target = displacement(context.target);
  onward = displacement(context.onward);
  payload = displacement(context.payload);
  reason = displacement(context.reason);
  x87.away = displacement(context.x87.away);
  x87.site = displacement(context.x87.site);
  x87.data = displacement(context.x87.data);
  x87.on_load = displacement(context.on_load_x87);
  for (unsigned i = 0; i < 2; ++i) segment_guards[i] = displacement(context.segment_guards[i]);
  for (unsigned i = 0; i < JumpTables::kTables; ++i) {
    jump_table[i] = displacement(context.jump_tables.tables[i]);
    other_entries[i] = displacement(context.jump_tables.others[i]);
  }
}

void Emitter::emit_entries_alone() {
  const CodeOffset body = block_.body;
  emit_entries();
  out_.jump(body);
  emit_cold();
}

void Emitter::emit(std::span<Item> items, size_t poll_at, const InnerLoop& inner,
                   std::span<const Window> windows, bool entries) {
  if (entries) emit_entries();
  block_.body = out_.here();
  sites_.reserve(items.size());
  place_x87_checks(items, poll_at, windows);
  for (size_t i = 0; i < items.size(); ++i) {
    index_ = static_cast<uint8_t>(i);
    if (i == inner.at) {
      const auto first_other = std::ranges::find_if(
          windows, [&](const Window& window) { return window.item != i || !window.inner; });
      const auto count = static_cast<size_t>(first_other - windows.begin());
      begin_inner(windows.first(count), static_cast<unsigned>((items.size() - i) / inner.round));
      windows = windows.subspan(count);
    }
    if (inner.begins_round(i)) begin_round();
    const bool opens = !windows.empty() && windows.front().item == i;
    if (opens || i == poll_at || !items[i].inside_window || !leaves_stack_pending(items[i]))
      settle_stack();
    sites_.push_back({.offset = static_cast<uint32_t>(from_base(items[i].rip)) & 0x1FFF,
                      .enterable = !items[i].inside_window && !items[i].inside_x87,
                      .code = (out_.here() - block_.body) & 0x3FFFF});
    const Item& item = items[i];
    if (i == poll_at) emit_poll(item.flags_live);
    if (item.checks_x87) emit_x87_check(item);
    size_t opened = 0;
    while (opened < windows.size() && windows[opened].item == i) ++opened;
    open_windows(windows.first(opened), item.flags_live);
    windows = windows.subspan(opened);
    switch (item.kind) {
      case Kind::kPlain:
      case Kind::kAddress:
      case Kind::kPush:
      case Kind::kPop:
      case Kind::kNothing:
      case Kind::kLeave:
      case Kind::kCall:
      case Kind::kCallAway:
      case Kind::kJumpAway:
      case Kind::kReturn:
      case Kind::kJump:
      case Kind::kBranch:
        break;  // they say themselves if they change R10 or R11
      default:
        r10_window_ = r11_window_ = 0;
    }
    const bool last = i + 1 == items.size();
    faults_plainly_ = item.faults_plainly;
    emit_item(item, last);
    if (item.x87 == X87::kIsNoted) note_x87(items.subspan(i), windows);
    if (may_leave(item)) forget_spilled();
    if (last) settle_stack();
    if (item.ends_block) continue;
    switch (item.kind) {
      case Kind::kBranch:
        if (item.loops) {  // the other way is the one out
          add_link(emit_branch(item, true), item.next());
          if (last) end_inner();
          break;
        }
        add_link(emit_branch(item, false), item.target());
        if (last) add_last_link(item.next());
        break;
      case Kind::kJump:
      case Kind::kCall:
        if (last) add_last_link(item.target());
        break;
      case Kind::kCallAway:
      case Kind::kJumpAway:
      case Kind::kReturn:
      case Kind::kInterpret:
        break;
      default:
        if (last) add_last_link(item.next());
        break;
    }
  }
  block_.end = out_.here();
  emit_cold();
  emit_tables();
}

/// Whoever jumps here may count on every flag: only behind the check is it sure that this is the
/// code for R10, which knows the flags that it needs. JRCXZ looks at none.
void Emitter::emit_entries() {
  constexpr unsigned kMissSize = 8;
  block_.indirect = out_.here();
  out_.mov(kR11, kRcx);
  out_.cpu_load(kRcx, epoch());
  out_.lea(kR10, kR10, kRcx, 0, -static_cast<int32_t>(block_.offset));
  out_.load_relative(kRcx, place_.data + static_cast<CodeOffset>(offsetof(HomeData, key)));
  out_.lea(kRcx, kRcx, kR10, 0, 0);
  out_.byte(0xE3);  // JRCXZ over the miss
  out_.byte(kMissSize);
  out_.mov(kRcx, kR11);
  cold_.push_back({.what = Cold::What::kRevalidate, .place = out_.jump()});
  out_.mov(kRcx, kR11);
}

/// `address` is the guest's, and an instruction can store it.
bool Emitter::is_immediate(uint64_t address) const {
  return place_.fixed &&
         (kind_.code32 || static_cast<int64_t>(address) == static_cast<int32_t>(address));
}

void Emitter::load_address(Assembler& out, Reg to, uint64_t address) {
  if (place_.fixed) {
    out.mov(to, address);
    return;
  }
  out.load_relative(to, place_.data + static_cast<CodeOffset>(offsetof(HomeData, base)));
  int64_t offset = from_base(address);
  while (offset != 0) {  // a RIP-relative operand may be a little farther away than 2 GiB
    constexpr int64_t kMost = INT32_MAX, kLeast = INT32_MIN;
    const int64_t step = std::clamp(offset, kLeast, kMost);
    out.lea(to, to, static_cast<int32_t>(step));
    offset -= step;
  }
  if (kind_.code32) out.mov32(to, to);
}

void Emitter::emit_poll(bool flags_live) {
  Cold exit{.index = index_, .reason = ExitReason::kPoll};
  r10_window_ = r11_window_ = 0;
  if (!flags_live) {
    out_.cpu_cmp8(layout_.attention, 0);
    exit.place = out_.jump_if(Condition::kNotEqual);
  } else {
    out_.mov(kR10, kRcx);
    out_.cpu_load8(kRcx, layout_.attention);
    out_.byte(0xE3);  // JRCXZ over the next two
    out_.byte(8);
    out_.mov(kRcx, kR10);
    exit.place = out_.jump();
    out_.mov(kRcx, kR10);
  }
  cold_.push_back(exit);
}

void Emitter::emit_item(const Item& item, bool last) {
  switch (item.kind) {
    case Kind::kPlain:
      return emit_plain(item);
    case Kind::kAddress:
      return emit_address_of(item);
    case Kind::kPush:
      return emit_push(item);
    case Kind::kPop:
      return emit_pop(item);
    case Kind::kLeave:
      return emit_leave(item);
    case Kind::kCall:
      return emit_call(item);
    case Kind::kCallAway:
    case Kind::kJumpAway:
      return emit_away(item);
    case Kind::kReturn:
      return emit_return(item);
    case Kind::kInterpret:
      return emit_interpret();
    case Kind::kBitTest:
      return emit_bit_test(item);
    case Kind::kString:
      return emit_string(item);
    case Kind::kPushFlags:
      return emit_push_flags();
    case Kind::kReadTsc:
      return emit_read_tsc(item);
    case Kind::kClearInterrupt:
      if (item.flags_live) save_flags();
      out_.cpu_and8(layout_.flags_rest + 1, 0xFD);
      if (item.flags_live) restore_flags();
      return;
    case Kind::kSetInterrupt:
      return emit_set_interrupt(item, last);
    case Kind::kSwapGs:
      out_.cpu_load(kR10, layout_.gs_base);
      out_.cpu_load(kR11, layout_.kernel_gs_base);
      out_.cpu_store(layout_.kernel_gs_base, kR10);
      out_.cpu_store(layout_.gs_base, kR11);
      return;
    case Kind::kSetAc:
      if (item.flags_live) save_flags();
      emit_set_ac(true);
      if (item.flags_live) restore_flags();
      return;
    case Kind::kClearAc:
      if (item.flags_live) save_flags();
      emit_set_ac(false);
      if (item.flags_live) restore_flags();
      return;
    case Kind::kNothing:
    case Kind::kJump:
    case Kind::kBranch:
      return;
    default:
      return emit_system(item);
  }
}

/// Whether the interpreter may run the item, and the code behind it go on.
bool Emitter::may_leave(const Item& item) {
  switch (item.kind) {
    case Kind::kPlain:
      return item.has_memory;
    case Kind::kAddress:
    case Kind::kNothing:
    case Kind::kJump:
    case Kind::kBranch:
      return false;
    default:
      return true;
  }
}

/// Whether the item may come before RSP has been moved by what pushes and pops before it left
/// pending: they are in one window, so nothing can leave the block or fault in between.
bool Emitter::leaves_stack_pending(const Item& item) {
  constexpr uint16_t kStackPointer = 1u << kRsp;
  switch (item.kind) {
    case Kind::kPush:
    case Kind::kPop:
      return item.stack_window != 0 && !item.has_memory && item.operands[0].number != kRsp;
    case Kind::kCall:
    case Kind::kReturn:
      return item.stack_window != 0;
    case Kind::kNothing:
      return true;
    case Kind::kPlain:
      return item.stays_inside &&
             ((item.registers_read | item.registers_written) & kStackPointer) == 0;
    default:
      return false;
  }
}

void Emitter::settle_stack() {
  if (pending_rsp_ != 0) add_to_stack_pointer(pending_rsp_);
  pending_rsp_ = 0;
}

void Emitter::add_to_stack_pointer(int32_t by) { out_.lea(kRsp, kRsp, by, wide()); }

/// R10 and R11 are the translator's where code may go on that was left for the interpreter.
void Emitter::forget_spilled() {
  if (r10_window_ == kGuests) r10_window_ = 0;
  if (r11_window_ == kGuests) r11_window_ = 0;
}

void Emitter::load_spilled(uint16_t registers) {
  if ((registers & (1u << kR10)) != 0 && r10_window_ != kGuests) {
    out_.cpu_load(kR10, layout_.gpr(kR10));
    r10_window_ = kGuests;
  }
  if ((registers & (1u << kR11)) != 0 && r11_window_ != kGuests) {
    out_.cpu_load(kR11, layout_.gpr(kR11));
    r11_window_ = kGuests;
  }
}

void Emitter::store_spilled(uint16_t registers) {
  if (registers & (1u << kR10)) {
    out_.cpu_store(layout_.gpr(kR10), kR10);
    r10_window_ = kGuests;
  }
  if (registers & (1u << kR11)) {
    out_.cpu_store(layout_.gpr(kR11), kR11);
    r11_window_ = kGuests;
  }
}

void Emitter::emit_plain(const Item& item) {
  if (!item.has_memory) {
    load_spilled(item.registers_read);
    if (item.code32 && item.map == ZYDIS_OPCODE_MAP_DEFAULT && (item.opcode & 0xF0) == 0x40) {
      out_.bytes(item.bytes, item.length - 1u);  // INC and DEC are REX in 64-bit code
      out_.byte(0xFF);
      out_.byte(0xC0u | (item.opcode & 15u));
    } else {
      out_.bytes(item.bytes, item.length);
    }
    store_spilled(item.registers_written);
    return;
  }
  const auto read = static_cast<uint16_t>(item.registers_read & kSpilled);
  const auto written = static_cast<uint16_t>(item.registers_written & kSpilled);
  const HostOperand operand =
      reach_memory(item, item.memory_size, item.writes_memory, (read | written) == 0);
  if (item.high_byte) return emit_with_high_byte(item, operand);
  if (read == 0) {
    rewrite(item, kNoRegister, operand);
    if ((written & (1u << kR10)) != 0) r10_window_ = 0;
    if ((written & (1u << kR11)) != 0) r11_window_ = 0;
    return store_spilled(written);
  }
  const auto number = static_cast<Reg>(std::countr_zero(read));
  out_.cpu_load(kR11, layout_.gpr(number));
  r11_window_ = 0;
  rewrite(item, number, operand);
  if ((written & read) != 0) out_.cpu_store(layout_.gpr(number), kR11);
  if ((written & ~read) == 0) return;
  r10_window_ = 0;
  store_spilled(static_cast<uint16_t>(written & ~read));
}

/// The two bytes of the register change places for as long as the instruction takes.
void Emitter::emit_with_high_byte(const Item& item, const HostOperand& operand) {
  const unsigned low = item.modrm_reg & 3u;
  const auto exchange = [&] {
    out_.byte(0x86);  // XCHG low, high
    out_.byte(0xC0u | (low + 4) << 3 | low);
  };
  if (operand.base != kR10 || operand.index != kRsp || operand.displacement != 0)
    out_.lea(kR10, operand.base, operand.index, operand.scale, operand.displacement);
  r10_window_ = 0;
  exchange();
  rewrite(item, kNoRegister, {});
  exchange();
}

void Emitter::emit_address_of(const Item& item) {
  if (item.address.relative) {
    const Reg reg = general(item.operands[0]);
    const bool spilled = (kSpilled & (1u << reg)) != 0;
    const Reg into = spilled ? kR10 : reg;
    if (spilled) r10_window_ = 0;
    if (reg == kR11) r11_window_ = 0;
    load_address(out_, into, item.relative_target());
    if (!item.address.wide || item.operand_size == 4) out_.mov32(into, into);
    if (spilled) out_.cpu_store(layout_.gpr(reg), into);
    return;
  }
  if (item.code32 && item.address.base == kNoGeneral && item.address.index == kNoGeneral) {
    out_.mov(general(item.operands[0]), uint64_t{static_cast<uint32_t>(item.displacement)});
    return;
  }
  load_spilled(item.registers_read);
  out_.bytes(item.bytes, item.length);
  store_spilled(item.registers_written);
}

void Emitter::save_flags(Assembler& out) {
  out.cpu_store(layout_.saved_rax, kRax);
  out.flags_to_ax();
}

void Emitter::restore_flags(Assembler& out) {
  out.flags_from_ax();
  out.cpu_load(kRax, layout_.saved_rax);
}

void Emitter::emit_push(const Item& item) {
  const Operand& operand = item.operands[0];
  const bool from_memory = operand.type == Operand::Type::kMemory;
  const bool asks = item.stack_window == 0;  // uses R11
  if (from_memory) {
    out_.load(kR11, reach_memory(item, kind_.word(), false), wide());
    r11_window_ = 0;
    if (asks) out_.cpu_store(layout_.temporary, kR11);
  }
  const bool spilled = operand.is_general() && (kSpilled & (1u << operand.number)) != 0;
  const HostOperand to = reach_stack(item, kRsp, -word(), true, !from_memory && !spilled);
  if (from_memory) {
    if (asks) out_.cpu_load(kR11, layout_.temporary);
    out_.store(to, kR11, wide());
  } else if (operand.is_general()) {
    Reg from = general(operand);
    if (spilled) {
      out_.cpu_load(kR11, layout_.gpr(from));
      r11_window_ = 0;
      from = kR11;
    }
    out_.store(to, from, wide());
  } else {
    out_.store_immediate(to, static_cast<uint32_t>(item.immediate), wide());
  }
  move_stack(item, -word());
}

void Emitter::emit_pop(const Item& item) {
  const Reg to = general(item.operands[0]);
  const bool spilled = (kSpilled & (1u << to)) != 0;
  const HostOperand from = reach_stack(item, kRsp, 0, false, !spilled);
  if (to == kRsp) return out_.load(kRsp, from, wide());
  if (spilled) {
    out_.load(kR11, from, wide());
    r11_window_ = 0;
    out_.cpu_store(layout_.gpr(to), kR11);
  } else {
    out_.load(to, from, wide());
  }
  move_stack(item, word());
}

/// Behind a PUSH or POP: at once only where nothing may be left pending.
void Emitter::move_stack(const Item& item, int32_t by) {
  pending_rsp_ += by;
  if (!leaves_stack_pending(item)) settle_stack();
}

void Emitter::emit_leave(const Item& item) {
  out_.load(kR10, reach_stack(item, kRbp, 0, false, true), wide());
  r10_window_ = 0;
  out_.lea(kRsp, kRbp, word(), wide());
  out_.mov(kRbp, kR10);
}

void Emitter::emit_call(const Item& item) {
  const uint64_t next = item.next();
  const bool immediate = is_immediate(next);
  const HostOperand to = reach_stack(item, kRsp, -word(), true, immediate);
  if (immediate) {
    out_.store_immediate(to, static_cast<uint32_t>(next), wide());
  } else {
    load_address(out_, kR11, next);
    r11_window_ = 0;
    out_.store(to, kR11, wide());
  }
  pending_rsp_ -= word();
  settle_stack();
}

void Emitter::emit_away(const Item& item) {
  const bool calls = item.kind == Kind::kCallAway;
  if (item.has_memory) {
    out_.load(kR10, reach_memory(item, kind_.word(), false), wide());
    r10_window_ = 0;
    if (calls && item.stack_window != 0) {
      emit_call_beside_r10(item);
    } else if (calls) {
      out_.cpu_store(layout_.temporary, kR10);
      emit_call(item);
      out_.cpu_load(kR10, layout_.temporary);
    }
  } else {
    if (calls) emit_call(item);
    const Reg reg = general(item.operands[0]);
    if (kSpilled & (1u << reg))
      out_.cpu_load(kR10, layout_.gpr(reg));
    else
      out_.mov(kR10, reg);
  }
  jump_to_r10();
}

/// R10, the target, waits for nothing that this does: the sooner it is known, the sooner the host
/// finds out that it went the wrong way.
void Emitter::emit_call_beside_r10(const Item& item) {
  if (r11_window_ != item.stack_window) load_window(kR11, item.stack_window);
  const HostOperand to{.base = kRsp, .index = kR11, .displacement = pending_rsp_ - word()};
  const uint64_t next = item.next();
  if (is_immediate(next)) {
    out_.store_immediate(to, static_cast<uint32_t>(next), wide());
  } else {
    out_.cpu_store(layout_.temporary, kRcx);
    load_address(out_, kRcx, next);
    out_.store(to, kRcx, wide());
    out_.cpu_load(kRcx, layout_.temporary);
  }
  r11_window_ = 0;  // the jump's
  pending_rsp_ -= word();
  settle_stack();
}

void Emitter::emit_return(const Item& item) {
  const auto drop = static_cast<int32_t>(item.immediate & 0xFFFF);
  out_.load(kR10, reach_stack(item, kRsp, 0, false, true), wide());
  r10_window_ = 0;
  pending_rsp_ += word() + drop;
  settle_stack();
  jump_to_r10();
}

void Emitter::jump_to_r10(Assembler& out) {
  out.movzx16(kR11, kR10);
  out.gs_jump_indexed(kR11, layout_.jump_table[kind_.table()]);
}

void Emitter::emit_bit_test(const Item& item) {
  const bool wide = item.operand_size == 8;
  const Reg reg = general(item.operands[1]);
  // The bit offset, wherever the register stands now.
  const auto load_offset = [&](bool rax_saved) {
    if (kSpilled & (1u << reg))
      out_.cpu_load(kR11, layout_.gpr(reg));
    else if (reg == kRax && rax_saved)
      out_.cpu_load(kR11, layout_.saved_rax);
    else
      out_.mov(kR11, reg);
  };
  effective_address(item);
  if (item.flags_live) save_flags();
  load_offset(item.flags_live);
  if (!wide) out_.movsxd(kR11, kR11);
  out_.sar(kR11, wide ? 6 : 5);
  out_.lea(kR10, kR10, kR11, wide ? 3 : 2, 0, item.address.wide);
  add_segment_base(item);
  to_host(wide ? 8 : 4, item.writes_memory, item.flags_live ? Flags::kSaved : Flags::kDead);
  load_offset(item.flags_live);
  out_.and32(kR11, wide ? 63 : 31);
  if (item.flags_live) restore_flags();
  rewrite(item, reg, {});
}

void Emitter::emit_string(const Item& item) {
  if (item.flags_live) save_flags();
  constexpr unsigned kJumpSize = 5;
  out_.lea_relative(kR11, kJumpSize);
  out_.jump(trampolines_.string);
  const uint8_t size = (item.opcode & 1) == 0 ? 1 : item.operand_size;
  CallSite site = call_site(index_, item.flags_live);
  site.size = size;
  site.write = (item.opcode & 0xFE) == 0xAA;
  emit_call_site(out_, site);
  if (item.flags_live) restore_flags();
}

void Emitter::emit_push_flags() {
  save_flags();
  out_.mov(kR11, kRax);  // AL: OF, AH: the others of the low byte
  out_.movzx8(kR10, kR11);
  out_.shl32(kR10, 11);
  out_.shr32(kR11, 8);
  out_.movzx8(kR11, kR11);
  out_.lea(kR10, kR10, kR11, 0, 0);
  out_.cpu_or(kR10, layout_.flags_rest);
  out_.cpu_store(layout_.temporary, kR10);
  out_.lea(kR10, kRsp, -word(), wide());
  to_host(kind_.word(), true, Flags::kSaved);
  out_.cpu_load(kR11, layout_.temporary);
  out_.store(HostOperand{}, kR11, wide());
  add_to_stack_pointer(-word());
  restore_flags();
}

void Emitter::emit_read_tsc(const Item& item) {
  if (item.flags_live) {
    save_flags();
    out_.cpu_store(layout_.temporary, kRax);
  }
  out_.bytes(item.code());
  if (item.is(ZYDIS_MNEMONIC_RDTSCP)) out_.cpu(false, {0x8B}, kRcx, layout_.tsc_aux);
  out_.mov32(kRax, kRax);
  out_.byte(0x48);  // SHL RDX, 32
  out_.byte(0xC1);
  out_.byte(0xE2);
  out_.byte(32);
  out_.lea(kRax, kRax, kRdx, 0, 0);
  out_.cpu_add(kRax, layout_.tsc_offset);
  out_.mov(kRdx, kRax);
  out_.byte(0x48);  // SHR RDX, 32
  out_.byte(0xC1);
  out_.byte(0xEA);
  out_.byte(32);
  out_.mov32(kRax, kRax);
  if (item.flags_live) {
    out_.cpu_store(layout_.saved_rax, kRax);
    out_.cpu_load(kRax, layout_.temporary);
    restore_flags();
  }
}

/// With an interrupt in sight the interpreter does it, shadow and all.
void Emitter::emit_set_interrupt(const Item& item, bool last) {
  if (last) {
    emit_interpret();
    return;
  }
  if (item.flags_live) save_flags();
  out_.cpu_cmp16(layout_.attention, 0);
  cold_.push_back({.restore_flags = item.flags_live,
                   .place = out_.jump_if(Condition::kNotEqual),
                   .index = index_});
  out_.cpu_or8(layout_.flags_rest + 1, 0x02);
  if (item.flags_live) restore_flags();
}

/// Flags are dead or saved.
void Emitter::emit_set_ac(bool set) {
  const unsigned choice = set ? 1 : 0;
  if (set)
    out_.cpu_or8(layout_.flags_rest + 2, 0x04);
  else
    out_.cpu_and8(layout_.flags_rest + 2, 0xFB);
  out_.cpu_load(kR10, layout_.ac.chosen_data[choice]);
  out_.cpu_store(layout_.ac.data, kR10);
  out_.cpu_load8(kR10, layout_.ac.chosen_view[choice]);
  out_.cpu_store8(layout_.ac.view, kR10);
  out_.cpu_move8(layout_.ac.alignment_check, set ? 1 : 0);
}

/// A jump, whose displacement's place is returned, for when the branch is taken or, inverted, is
/// not.
CodeOffset Emitter::emit_branch(const Item& item, bool inverted) {
  constexpr unsigned kShortJump = 2, kJump = 5;
  const auto skip = [&](unsigned opcode, unsigned bytes) {
    out_.byte(opcode);
    out_.byte(bytes);
  };
  if (item.counter == Counter::kNone)
    return out_.jump_if(static_cast<uint8_t>((item.opcode & 15) ^ (inverted ? 1 : 0)));
  if (item.counter == Counter::kLoop) out_.lea(kRcx, kRcx, -1, wide());
  if ((item.counter == Counter::kIsZero) == inverted) {
    skip(0xE3, kJump);  // JRCXZ
  } else {
    skip(0xE3, kShortJump);
    skip(0xEB, kJump);  // JMP
  }
  return out_.jump();
}

void Emitter::emit_interpret() {
  out_.mov(kR10, make_site(id_, index_));
  out_.jump(trampolines_.exit_instruction);
}

}  // namespace limen::soft::translate
