#include "soft/translate/emitter.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

namespace limen::soft::translate {
namespace {

static_assert(sizeof(DataEntry) == 32 && DataBank::kMask == 1023);
constexpr int32_t kReadTag = 0, kWriteTag = 8, kHost = 16;

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
  windows = displacement(context.windows);
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
  payload = displacement(context.payload);
  reason = displacement(context.reason);
  for (unsigned i = 0; i < 2; ++i) jump_table[i] = displacement(context.jump_tables[i]);
}

void Emitter::emit(std::span<Item> items, size_t poll_at, std::span<const Window> windows) {
  emit_entries();

  sites_.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    index_ = static_cast<uint8_t>(i);
    sites_.push_back({.offset = static_cast<uint32_t>(from_base(items[i].rip)) & 0x1FFF,
                      .enterable = !items[i].inside_window,
                      .code = (out_.here() - block_.body) & 0x3FFFF});
    const Item& item = items[i];
    if (i == poll_at) emit_poll(item.flags_live);
    for (; !windows.empty() && windows.front().item == i; windows = windows.subspan(1))
      open_window(windows.front(), item.flags_live);
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
    if (item.ends_block) continue;
    switch (item.kind) {
      case Kind::kBranch:
        if (item.loops) {  // the other way is the one out
          add_link(out_.jump_if(static_cast<uint8_t>((item.instruction.raw.opcode & 15) ^ 1)),
                   item.next());
          break;
        }
        add_link(out_.jump_if(static_cast<uint8_t>(item.instruction.raw.opcode & 15)),
                 item.target());
        if (last) add_link(out_.jump(), item.next());
        break;
      case Kind::kJump:
      case Kind::kCall:
        if (last) add_link(out_.jump(), item.target());
        break;
      case Kind::kCallAway:
      case Kind::kJumpAway:
      case Kind::kReturn:
      case Kind::kInterpret:
        break;
      default:
        if (last) add_link(out_.jump(), item.next());
        break;
    }
  }
  block_.end = out_.here();
  emit_cold();
  cold_out_.align(alignof(Site));
  block_.sites = cold_out_.here();
  block_.site_count = static_cast<uint8_t>(sites_.size());
  cold_out_.bytes({reinterpret_cast<const uint8_t*>(sites_.data()), sites_.size() * sizeof(Site)});
}

/// Whoever jumps here may count on every flag: only behind the check is it sure that this is the
/// code for R10, which knows the flags that it needs. JRCXZ looks at none.
void Emitter::emit_entries() {
  constexpr unsigned kMissSize = 8;
  if (place_.fixed) {
    block_.checked = out_.here();
    out_.mov(kR10, place_.base + block_.offset);
  }
  if (!place_.fixed) out_.align(16);
  block_.indirect = out_.here();
  out_.mov(kR11, kRcx);
  out_.gs_load(kRcx, epoch());
  out_.lea(kR10, kR10, kRcx, 0, -static_cast<int32_t>(block_.offset));
  out_.load_relative(kRcx, place_.data + static_cast<CodeOffset>(offsetof(HomeData, key)));
  out_.lea(kRcx, kRcx, kR10, 0, 0);
  out_.byte(0xE3);  // JRCXZ over the miss
  out_.byte(kMissSize);
  out_.mov(kRcx, kR11);
  cold_.push_back({.what = Cold::What::kRevalidate, .place = out_.jump()});
  out_.mov(kRcx, kR11);
  block_.body = out_.here();
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
}

void Emitter::emit_poll(bool flags_live) {
  Cold exit{.index = index_, .reason = ExitReason::kPoll};
  r10_window_ = r11_window_ = 0;
  if (!flags_live) {
    out_.gs_cmp8(layout_.attention, 0);
    exit.place = out_.jump_if(Condition::kNotEqual);
  } else {
    out_.mov(kR10, kRcx);
    out_.gs_load8(kRcx, layout_.attention);
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
      out_.gs_and8(layout_.flags_rest + 1, 0xFD);
      if (item.flags_live) restore_flags();
      return;
    case Kind::kSetInterrupt:
      return emit_set_interrupt(item, last);
    case Kind::kSwapGs:
      out_.gs_load(kR10, layout_.gs_base);
      out_.gs_load(kR11, layout_.kernel_gs_base);
      out_.gs_store(layout_.kernel_gs_base, kR10);
      out_.gs_store(layout_.gs_base, kR11);
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

void Emitter::load_spilled(uint16_t registers) {
  if (registers & (1u << kR10)) {
    out_.gs_load(kR10, layout_.gpr(kR10));
    r10_window_ = 0;
  }
  if (registers & (1u << kR11)) {
    out_.gs_load(kR11, layout_.gpr(kR11));
    r11_window_ = 0;
  }
}

void Emitter::store_spilled(uint16_t registers) {
  if (registers & (1u << kR10)) out_.gs_store(layout_.gpr(kR10), kR10);
  if (registers & (1u << kR11)) out_.gs_store(layout_.gpr(kR11), kR11);
}

void Emitter::emit_plain(const Item& item) {
  if (!item.has_memory) {
    load_spilled(item.registers_read);
    out_.bytes({item.instruction.bytes.data(), item.instruction.length()});
    store_spilled(item.registers_written);
    return;
  }
  const auto spilled = static_cast<uint16_t>(item.registers_read & kSpilled);
  const HostOperand operand =
      reach_memory(item, item.memory_size, item.writes_memory, spilled == 0);
  const auto number = static_cast<unsigned>(std::countr_zero(spilled));
  if (spilled != 0) {
    out_.gs_load(kR11, layout_.gpr(number));
    r11_window_ = 0;
  }
  rewrite(item, spilled != 0, operand);
  if (spilled & item.registers_written) out_.gs_store(layout_.gpr(number), kR11);
}

void Emitter::emit_address_of(const Item& item) {
  const auto& memory = item.memory();
  const ZydisRegister to = item.instruction.operands[0].reg.value;
  if (memory.mem.base == ZYDIS_REGISTER_RIP || memory.mem.base == ZYDIS_REGISTER_EIP) {
    const Reg reg = general(to);
    const bool spilled = (kSpilled & (1u << reg)) != 0;
    const Reg into = spilled ? kR10 : reg;
    if (spilled) r10_window_ = 0;
    load_address(out_, into, item.next() + static_cast<uint64_t>(memory.mem.disp.value));
    if (item.instruction.raw.address_width == 32 || item.instruction.raw.operand_width == 32)
      out_.mov32(into, into);
    if (spilled) out_.gs_store(layout_.gpr(reg), into);
    return;
  }
  load_spilled(item.registers_read);
  out_.bytes({item.instruction.bytes.data(), item.instruction.length()});
  store_spilled(item.registers_written);
}

void Emitter::save_flags(Assembler& out) {
  out.gs_store(layout_.saved_rax, kRax);
  out.byte(0x9F);  // LAHF
  out.byte(0x0F);  // SETO AL
  out.byte(0x90);
  out.byte(0xC0);
}

void Emitter::restore_flags(Assembler& out) {
  out.byte(0x04);  // ADD AL, 127: OF
  out.byte(0x7F);
  out.byte(0x9E);  // SAHF
  out.gs_load(kRax, layout_.saved_rax);
}

void Emitter::emit_push(const Item& item) {
  const auto& operand = item.instruction.operands[0];
  const bool from_memory = operand.type == ZYDIS_OPERAND_TYPE_MEMORY;
  const bool asks = item.stack_window == 0;  // uses R11
  if (from_memory) {
    out_.load(kR11, reach_memory(item, 8, false));
    r11_window_ = 0;
    if (asks) out_.gs_store(layout_.temporary, kR11);
  }
  const bool spilled = operand.type == ZYDIS_OPERAND_TYPE_REGISTER &&
                       (kSpilled & (1u << general(operand.reg.value))) != 0;
  const HostOperand to = reach_stack(item, kRsp, -8, true, !from_memory && !spilled);
  if (from_memory) {
    if (asks) out_.gs_load(kR11, layout_.temporary);
    out_.store(to, kR11);
  } else if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER) {
    Reg from = general(operand.reg.value);
    if (spilled) {
      out_.gs_load(kR11, layout_.gpr(from));
      r11_window_ = 0;
      from = kR11;
    }
    out_.store(to, from);
  } else {
    out_.store_immediate(to, static_cast<uint32_t>(operand.imm.value.u));
  }
  out_.lea(kRsp, kRsp, -8);
}

void Emitter::emit_pop(const Item& item) {
  const Reg to = general(item.instruction.operands[0].reg.value);
  const bool spilled = (kSpilled & (1u << to)) != 0;
  const HostOperand from = reach_stack(item, kRsp, 0, false, !spilled);
  if (to == kRsp) return out_.load(kRsp, from);
  if (spilled) {
    out_.load(kR11, from);
    r11_window_ = 0;
    out_.gs_store(layout_.gpr(to), kR11);
  } else {
    out_.load(to, from);
  }
  out_.lea(kRsp, kRsp, 8);
}

void Emitter::emit_leave(const Item& item) {
  out_.load(kR10, reach_stack(item, kRbp, 0, false, true));
  r10_window_ = 0;
  out_.lea(kRsp, kRbp, 8);
  out_.mov(kRbp, kR10);
}

void Emitter::emit_call(const Item& item) {
  const HostOperand to = reach_stack(item, kRsp, -8, true);
  load_address(out_, kR11, item.next());
  r11_window_ = 0;
  out_.store(to, kR11);
  out_.lea(kRsp, kRsp, -8);
}

void Emitter::emit_away(const Item& item) {
  if (item.has_memory) {
    out_.load(kR10, reach_memory(item, 8, false));
    r10_window_ = 0;
    if (item.kind == Kind::kCallAway) out_.gs_store(layout_.temporary, kR10);
  }
  if (item.kind == Kind::kCallAway) emit_call(item);
  if (!item.has_memory) {
    const Reg reg = general(item.instruction.operands[0].reg.value);
    if (kSpilled & (1u << reg))
      out_.gs_load(kR10, layout_.gpr(reg));
    else
      out_.mov(kR10, reg);
  } else if (item.kind == Kind::kCallAway) {
    out_.gs_load(kR10, layout_.temporary);
  }
  jump_to_r10();
}

void Emitter::emit_return(const Item& item) {
  const auto& raw = item.instruction.raw;
  const auto drop = raw.operand_count_visible > 0
                        ? static_cast<int32_t>(item.instruction.operands[0].imm.value.u & 0xFFFF)
                        : 0;
  out_.load(kR10, reach_stack(item, kRsp, 0, false, true));
  r10_window_ = 0;
  out_.lea(kRsp, kRsp, 8 + drop);
  jump_to_r10();
}

void Emitter::jump_to_r10() {
  out_.movzx16(kR11, kR10);
  out_.gs_jump_indexed(kR11, layout_.jump_table[kind_.user ? 1 : 0]);
}

void Emitter::emit_call_site(Assembler& out, const CallSite& site) {
  std::array<uint8_t, sizeof site> bytes;
  std::memcpy(bytes.data(), &site, sizeof site);
  out.bytes(bytes);
}

void Emitter::emit_bit_test(const Item& item) {
  const auto& operand = item.instruction.operands[1];
  const bool wide = item.instruction.raw.operand_width == 64;
  const Reg reg = general(operand.reg.value);
  // The bit offset, wherever the register stands now.
  const auto load_offset = [&](bool rax_saved) {
    if (kSpilled & (1u << reg))
      out_.gs_load(kR11, layout_.gpr(reg));
    else if (reg == kRax && rax_saved)
      out_.gs_load(kR11, layout_.saved_rax);
    else
      out_.mov(kR11, reg);
  };
  effective_address(item);
  if (item.flags_live) save_flags();
  load_offset(item.flags_live);
  if (!wide) out_.movsxd(kR11, kR11);
  out_.sar(kR11, wide ? 6 : 5);
  out_.lea(kR10, kR10, kR11, wide ? 3 : 2, 0, item.instruction.raw.address_width == 64);
  add_segment_base(item);
  to_host(wide ? 8 : 4, item.writes_memory, item.flags_live ? Flags::kSaved : Flags::kDead);
  load_offset(item.flags_live);
  out_.and32(kR11, wide ? 63 : 31);
  if (item.flags_live) restore_flags();
  rewrite(item, true, {});
}

void Emitter::emit_string(const Item& item) {
  const auto& raw = item.instruction.raw;
  if (item.flags_live) save_flags();
  constexpr unsigned kJumpSize = 5;
  out_.lea_relative(kR11, kJumpSize);
  out_.jump(trampolines_.string);
  const auto size = static_cast<uint8_t>((raw.opcode & 1) == 0 ? 1 : raw.operand_width / 8);
  emit_call_site(out_, {.site = make_site(id_, index_),
                        .resume = static_cast<uint32_t>(out_.here() + sizeof(CallSite)),
                        .size = size,
                        .write = (raw.opcode & 0xFE) == 0xAA,
                        .flags_saved = item.flags_live});
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
  out_.gs_or(kR10, layout_.flags_rest);
  out_.gs_store(layout_.temporary, kR10);
  out_.lea(kR10, kRsp, -8);
  to_host(8, true, Flags::kSaved);
  out_.gs_load(kR11, layout_.temporary);
  out_.store(kR10, 0, kR11);
  out_.lea(kRsp, kRsp, -8);
  restore_flags();
}

void Emitter::emit_read_tsc(const Item& item) {
  if (item.flags_live) {
    save_flags();
    out_.gs_store(layout_.temporary, kRax);
  }
  out_.bytes({item.instruction.bytes.data(), item.instruction.length()});
  if (item.instruction.mnemonic() == ZYDIS_MNEMONIC_RDTSCP)
    out_.gs(false, {0x8B}, kRcx, layout_.tsc_aux);
  out_.mov32(kRax, kRax);
  out_.byte(0x48);  // SHL RDX, 32
  out_.byte(0xC1);
  out_.byte(0xE2);
  out_.byte(32);
  out_.lea(kRax, kRax, kRdx, 0, 0);
  out_.gs_add(kRax, layout_.tsc_offset);
  out_.mov(kRdx, kRax);
  out_.byte(0x48);  // SHR RDX, 32
  out_.byte(0xC1);
  out_.byte(0xEA);
  out_.byte(32);
  out_.mov32(kRax, kRax);
  if (item.flags_live) {
    out_.gs_store(layout_.saved_rax, kRax);
    out_.gs_load(kRax, layout_.temporary);
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
  out_.gs_cmp16(layout_.attention, 0);
  cold_.push_back({.restore_flags = item.flags_live,
                   .place = out_.jump_if(Condition::kNotEqual),
                   .index = index_});
  out_.gs_or8(layout_.flags_rest + 1, 0x02);
  if (item.flags_live) restore_flags();
}

/// Flags are dead or saved.
void Emitter::emit_set_ac(bool set) {
  const unsigned choice = set ? 1 : 0;
  if (set)
    out_.gs_or8(layout_.flags_rest + 2, 0x04);
  else
    out_.gs_and8(layout_.flags_rest + 2, 0xFB);
  out_.gs_load(kR10, layout_.ac.chosen_data[choice]);
  out_.gs_store(layout_.ac.data, kR10);
  out_.gs_load8(kR10, layout_.ac.chosen_view[choice]);
  out_.gs_store8(layout_.ac.view, kR10);
  out_.gs_move8(layout_.ac.alignment_check, set ? 1 : 0);
}

void Emitter::emit_interpret() {
  out_.mov(kR10, make_site(id_, index_));
  out_.jump(trampolines_.exit_instruction);
}

void Emitter::emit_link_stub(const Cold& cold) {
  Assembler& out = cold_out_;
  Link link;
  link.from = id_;
  link.target = cold.target;
  link.place = cold.place;
  link.stub = out.here();
  if (!place_.fixed) {
    load_address(out, kR10, place_.base + static_cast<uint64_t>(cold.target));
    const CodeOffset onward = out.jump();
    out.patch(onward, out.here());
    link.onward = static_cast<uint8_t>(onward - link.stub);
  }
  out.mov(kR10, blocks_.add_link(link));
  out.jump(trampolines_.exit_link);
}

void Emitter::emit_stack_miss(const Cold& cold) {
  constexpr unsigned kJumpSize = 5;
  Assembler& out = cold_out_;
  if (cold.restore_flags) save_flags(out);
  out.lea(kR10, cold.base, cold.displacement);
  // The bank may have the page, if the stack has moved from one page to another. At CPL 0 the bank
  // without RFLAGS.AC, whose pages can be used with it, too.
  const int32_t stack = layout_.stack_page[kind_.user ? 1 : 0];
  out.mov32(kR11, kR10);
  out.shr32(kR11, 12 - 5);
  out.and32(kR11, static_cast<uint32_t>(DataBank::kMask) << 5);
  out.gs_add(kR11, kind_.user ? layout_.data_bank : layout_.ac.chosen_data[0]);
  out.sub_memory(kR10, kR11, kWriteTag);
  out.cmp(kR10, 4096 - cold.size);
  const CodeOffset unknown = out.jump_if(Condition::kAbove);
  out.load(kR10, kR11, kHost);
  out.sub_memory(kR10, kR11, kWriteTag);
  out.gs_store(stack + static_cast<int32_t>(offsetof(StackPage, difference)), kR10);
  out.load(kR11, kR11, kWriteTag);
  out.neg(kR11);
  out.gs_store(stack + static_cast<int32_t>(offsetof(StackPage, minus_page)), kR11);
  if (cold.restore_flags) restore_flags(out);
  out.jump(cold.resume);

  out.patch(unknown, out.here());
  out.add_memory(kR10, kR11, kWriteTag);
  out.lea_relative(kR11, kJumpSize);
  out.jump(trampolines_.miss);
  const CodeOffset behind = out.here() + static_cast<CodeOffset>(sizeof(CallSite));
  emit_call_site(out, {.site = make_site(id_, cold.index),
                       .resume = cold.restore_flags ? behind : cold.resume,
                       .size = cold.size,
                       .write = cold.write,
                       .flags_saved = cold.restore_flags,
                       .of = CallSite::Of::kStack});
  if (!cold.restore_flags) return;
  restore_flags(out);
  out.jump(cold.resume);
}

void Emitter::emit_cold() {
  constexpr unsigned kJumpSize = 5;
  Assembler& out = cold_out_;
  for (const Cold& cold : cold_) {
    out_.patch(cold.place, out.here());
    switch (cold.what) {
      case Cold::What::kSite:
        if (cold.restore_flags) restore_flags(out);
        out.mov(kR10, make_site(id_, cold.index));
        out.jump(cold.reason == ExitReason::kPoll ? trampolines_.exit_poll
                                                  : trampolines_.exit_instruction);
        break;
      case Cold::What::kLink:
        emit_link_stub(cold);
        break;
      case Cold::What::kRevalidate:
        save_flags(out);
        out.gs_sub(kR10, epoch());
        out.lea(kR10, kR10, block_.offset);
        out.lea_relative(kR11, kJumpSize);
        out.jump(trampolines_.revalidate);
        emit_call_site(out, {.site = id_, .resume = block_.body, .flags_saved = 1});
        break;
      case Cold::What::kMiss:
        out.add_memory(kR10, kR11, cold.write ? kWriteTag : kReadTag);
        out.lea_relative(kR11, kJumpSize);
        out.jump(trampolines_.miss);
        emit_call_site(out, {.site = make_site(id_, cold.index),
                             .resume = cold.resume,
                             .size = cold.size,
                             .write = cold.write,
                             .flags_saved = cold.restore_flags,
                             .faults = cold.faults,
                             .of = cold.window ? CallSite::Of::kWindow : CallSite::Of::kAccess});
        break;
      case Cold::What::kStackMiss:
        emit_stack_miss(cold);
        break;
    }
  }
  cold_.clear();
}

}  // namespace limen::soft::translate
