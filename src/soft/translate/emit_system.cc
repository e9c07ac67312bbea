// The code of system instructions, and of the others whose meaning is not in their bytes.
#include "soft/translate/emitter.h"

namespace limen::soft::translate {
namespace {

constexpr uint16_t kSpilled = (1u << kR10) | (1u << kR11);

/// Where a bit of RFLAGS stands in Cpu::flags_rest: which byte, and the bit in it.
constexpr int32_t byte_of(uint64_t flag) { return std::countr_zero(flag) / 8; }
constexpr auto bit_of(uint64_t flag) {
  return static_cast<uint8_t>(1u << (std::countr_zero(flag) % 8));
}

}  // namespace

SystemLayout::SystemLayout(const Cpu& of) {
  const auto displacement = [&](const auto& field) {
    return static_cast<int32_t>(reinterpret_cast<const char*>(&field) -
                                reinterpret_cast<const char*>(&of));
  };
  const auto& system = of.system;
  cr0 = displacement(system.cr0);
  cr2 = displacement(system.cr2);
  cr3 = displacement(system.cr3);
  cr4 = displacement(system.cr4);
  lstar = displacement(system.lstar);
  cpl = displacement(of.cpl);
  for (size_t i = 0; i < segments.size(); ++i)
    segments[i] = displacement(system.segments[i].selector);
  const FastCalls& calls = of.generated.calls;
  call = displacement(calls.call);
  system_return = displacement(calls.system_return);
  kept_flags = displacement(calls.kept_flags);
  call_code = displacement(calls.call_code);
  call_stack = displacement(calls.call_stack);
  return_code = displacement(calls.return_code);
  return_stack = displacement(calls.return_stack);
  const Mmu::PrivilegeSwitch slots = of.mmu.privilege_switch();
  for (size_t i = 0; i < chosen_data.size(); ++i) {
    chosen_data[i] = displacement(*slots.chosen_data[i]);
    chosen_fetch[i] = displacement(*slots.chosen_fetch[i]);
    chosen_view[i] = displacement(*slots.chosen_view[i]);
  }
  data = displacement(*slots.data);
  fetch = displacement(*slots.fetch);
  view = displacement(*slots.view);
  user = displacement(*slots.user);
  alignment_check = displacement(*slots.alignment_check);
  on_interrupt_return = displacement(of.generated.on_interrupt_return);
  on_load_cr3 = displacement(of.generated.on_load_cr3);
  on_invalidate_page = displacement(of.generated.on_invalidate_page);
  on_pause = displacement(of.generated.on_pause);
}

void Emitter::emit_system(const Item& item) {
  switch (item.kind) {
    case Kind::kStringOnce:
      return emit_string_once(item);
    case Kind::kDirection:
      if (item.flags_live) save_flags();
      emit_direction(item.is(ZYDIS_MNEMONIC_STD));
      if (item.flags_live) restore_flags();
      return;
    case Kind::kPopFlags:
      return emit_pop_flags();
    case Kind::kSerialize:
      // Code that another processor changed before is not to run behind it: it has set the flag.
      if (item.flags_live) save_flags();
      out_.cpu_cmp8(layout_.attention, 0);
      leave_if(Condition::kNotEqual, item.flags_live);
      if (item.flags_live) restore_flags();
      return out_.bytes(item.code());
    case Kind::kPause:
      if (item.flags_live) save_flags();
      emit_quiet(trampolines_.pause, item.flags_live);
      if (item.flags_live) restore_flags();
      return;
    case Kind::kReadSelector:
      return emit_read_selector(item);
    case Kind::kReadBase:
      return emit_read_base(item);
    case Kind::kWriteBase:
      return emit_write_base(item);
    case Kind::kReadControl:
      return emit_read_control(item);
    case Kind::kSystemCall:
      load_address(out_, kR10, item.next());
      out_.mov(kR11, make_site(id_, index_));
      return out_.jump(trampolines_.system_call);
    case Kind::kSystemReturn:
      out_.mov(kR11, make_site(id_, index_));
      return out_.jump(trampolines_.system_return);
    case Kind::kInterruptReturn:
      save_flags();
      return emit_quiet(trampolines_.interrupt_return, true);
    case Kind::kLoadCr3:
      load_general(kR10, general(item.operands[1]));
      return emit_quiet_and_look(item, trampolines_.load_cr3);
    case Kind::kInvalidatePage:
      linear_address(item);
      return emit_quiet_and_look(item, trampolines_.invalidate_page);
    default:
      return;
  }
}

/// `to` is kR10 or kR11.
void Emitter::load_general(Reg to, Reg from) {
  if (kSpilled & (1u << from))
    out_.cpu_load(to, layout_.gpr(from));
  else
    out_.mov(to, from);
}

void Emitter::leave_if(Condition condition, bool restore_flags) {
  cold_.push_back(
      {.restore_flags = restore_flags, .place = out_.jump_if(condition), .index = index_});
}

/// R10 goes to the function as its argument.
void Emitter::emit_quiet(CodeOffset trampoline, bool flags_saved) {
  constexpr unsigned kJumpSize = 5;
  out_.lea_relative(kR11, kJumpSize);
  out_.jump(trampoline);
  emit_call_site(out_, call_site(index_, flags_saved));
}

/// What the function does may take the very next instruction away: it is looked up anew.
void Emitter::emit_quiet_and_look(const Item& item, CodeOffset trampoline) {
  if (item.flags_live) save_flags();
  emit_quiet(trampoline, item.flags_live);
  if (item.flags_live) restore_flags();
  load_address(out_, kR10, item.next());
  jump_to_r10();
}

void Emitter::emit_direction(bool down) {
  constexpr uint64_t kFlag = x86::rflags::kDirection;
  if (down)
    out_.cpu_or8(layout_.flags_rest + byte_of(kFlag), bit_of(kFlag));
  else
    out_.cpu_and8(layout_.flags_rest + byte_of(kFlag), static_cast<uint8_t>(~bit_of(kFlag)));
}

void Emitter::emit_string_once(const Item& item) {
  const unsigned size = (item.opcode & 1) == 0 ? 1 : item.operand_size;
  const bool live = item.flags_live;
  const Flags flags = live ? Flags::kSaved : Flags::kDead;
  const unsigned form = item.opcode & 0xFE;
  const bool compares = form == 0xA6 || form == 0xAE;   // CMPS, SCAS
  const bool at_source = form != 0xAA && form != 0xAE;  // all but STOS, SCAS
  const bool at_destination = form != 0xAC;             // all but LODS
  const bool at_both = at_source && at_destination;
  constexpr uint64_t kFlag = x86::rflags::kDirection;
  if (live) save_flags();
  out_.cpu_test8(layout_.flags_rest + byte_of(kFlag), bit_of(kFlag));
  leave_if(Condition::kNotEqual, live);
  // CMPS reads what RDI points to first.
  if (at_both) {
    out_.mov(kR10, compares ? kRdi : kRsi);
    to_host(size, false, flags);
    out_.at_r10(size, 0x8A, kR11);
    out_.cpu_store(layout_.temporary, kR11);
  }
  out_.mov(kR10, at_destination && !(at_both && compares) ? kRdi : kRsi);
  to_host(size, at_destination && !compares, flags);
  if (live) restore_flags();
  if (at_both) {
    out_.cpu_load(kR11, layout_.temporary);
    out_.at_r10(size, compares ? 0x38 : 0x88, kR11);
  } else {
    out_.at_r10(size, compares ? 0x3A : at_source ? 0x8A : 0x88, kRax);
  }
  if (at_source) out_.lea(kRsi, kRsi, static_cast<int32_t>(size), wide());
  if (at_destination) out_.lea(kRdi, kRdi, static_cast<int32_t>(size), wide());
}

/// Every arithmetic flag is written, so none needs to be kept.
void Emitter::emit_pop_flags() {
  namespace flags = x86::rflags;
  uint64_t changed = flags::kTrap | flags::kDirection | flags::kNestedTask |
                     flags::kAlignmentCheck | flags::kIdentification;
  if (!kind_.user) changed |= flags::kInterrupt | flags::kIopl;
  out_.mov(kR10, kRsp);
  to_host(kind_.word(), false, Flags::kDead);
  out_.load(kR10, HostOperand{}, wide());
  // The interpreter sets TF and changes AC, lets interrupts in, and knows who may write IF at an
  // IOPL other than 0.
  out_.cpu_load(kR11, layout_.flags_rest);
  out_.exclusive_or(kR11, kR10);
  out_.test32(kR11, static_cast<uint32_t>(flags::kTrap | flags::kAlignmentCheck));
  leave_if(Condition::kNotEqual, false);
  if (kind_.user) {
    out_.cpu_test8(layout_.flags_rest + byte_of(flags::kIopl),
                   static_cast<uint8_t>(flags::kIopl >> 8));
  } else {
    out_.cpu_cmp16(layout_.attention, 0);
  }
  leave_if(Condition::kNotEqual, false);
  // Where the new value differs in a bit that may change, the old one does.
  out_.and32(kR11, static_cast<uint32_t>(changed));
  out_.cpu(true, {0x31}, kR11, layout_.flags_rest);  // XOR
  // AH and AL as LAHF and SETO would leave them.
  out_.cpu_store(layout_.saved_rax, kRax);
  out_.mov32(kRax, kR10);
  out_.shl32(kRax, 8);
  out_.shr32(kR10, 11);
  out_.and32(kR10, 1);
  out_.inclusive_or(kRax, kR10);
  restore_flags();
  add_to_stack_pointer(word());
}

void Emitter::store_general(Reg to, int32_t from) {
  if (kSpilled & (1u << to)) {
    out_.cpu_load(kR10, from);
    out_.cpu_store(layout_.gpr(to), kR10);
  } else {
    out_.cpu_load(to, from);
    if (kind_.code32) out_.mov32(to, to);
  }
}

void Emitter::emit_read_control(const Item& item) {
  const SystemLayout& system = layout_.system;
  int32_t from = system.cr0;
  switch (item.operands[1].number) {
    case 2:
      from = system.cr2;
      break;
    case 3:
      from = system.cr3;
      break;
    case 4:
      from = system.cr4;
      break;
    default:
      break;
  }
  store_general(general(item.operands[0]), from);
}

void Emitter::emit_read_selector(const Item& item) {
  const size_t segment = item.operands[1].number;
  const Reg to = general(item.operands[0]);
  const bool spilled = (kSpilled & (1u << to)) != 0;
  const bool narrow = item.has_prefix(0x66) && !item.rex_w();
  out_.cpu(false, {0x0F, 0xB7}, kR10, layout_.system.segments[segment]);  // MOVZX
  if (!narrow) {
    if (spilled)
      out_.cpu_store(layout_.gpr(to), kR10);
    else
      out_.mov(to, kR10);
  } else {
    out_.byte(0x66);
    if (spilled)
      out_.cpu(false, {0x89}, kR10, layout_.gpr(to));
    else
      out_.mov32(to, kR10);  // with its prefix, MOV r16, r16
  }
}

void Emitter::emit_read_base(const Item& item) {
  const bool fs = item.is(ZYDIS_MNEMONIC_RDFSBASE);
  const Operand& operand = item.operands[0];
  const Reg to = general(operand);
  out_.cpu_load(kR10, fs ? layout_.fs_base : layout_.gs_base);
  if (operand.size == 4) out_.mov32(kR10, kR10);
  if (kSpilled & (1u << to))
    out_.cpu_store(layout_.gpr(to), kR10);
  else
    out_.mov(to, kR10);
}

void Emitter::emit_write_base(const Item& item) {
  const bool fs = item.is(ZYDIS_MNEMONIC_WRFSBASE);
  const Operand& operand = item.operands[0];
  load_general(kR10, general(operand));
  if (operand.size == 4) {
    out_.mov32(kR10, kR10);
  } else {
    if (item.flags_live) save_flags();
    out_.mov(kR11, kR10);
    out_.shl(kR11, 16);
    out_.sar(kR11, 16);
    out_.cmp(kR11, kR10);
    leave_if(Condition::kNotEqual, item.flags_live);
    if (item.flags_live) restore_flags();
  }
  out_.cpu_store(fs ? layout_.fs_base : layout_.gs_base, kR10);
}

}  // namespace limen::soft::translate
