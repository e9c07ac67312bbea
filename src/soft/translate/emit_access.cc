// How translated code reaches memory: through the soft TLB, once for each access or once for all of
// a window.
#include <algorithm>

#include "soft/interpret/native/host.h"
#include "soft/translate/emitter.h"

namespace limen::soft::translate {
namespace {

static_assert(sizeof(DataEntry) == 32);
constexpr int32_t kReadTag = 0, kWriteTag = 8, kHost = 16, kDifference = 24;

constexpr uint16_t kSpilled = (1u << kR10) | (1u << kR11);

/// Whether the memory operand is a register that stands in the host's, and a displacement which
/// needs no wrapping around.
bool is_base_alone(const Item& item) {
  const Address& memory = item.address;
  return (memory.wide || (item.code32 && item.displacement == 0)) && memory.index == kNoGeneral &&
         memory.base != kNoGeneral && (kSpilled >> memory.base & 1) == 0 &&
         memory.segment == Address::Segment::kFlat;
}

}  // namespace

void Emitter::effective_address(const Item& item) {
  const bool has_r10 = r10_window_ == kGuests;
  const bool has_r11 = r11_window_ == kGuests;
  r10_window_ = r11_window_ = 0;
  const Address& memory = item.address;
  const bool wide = memory.wide;
  if (memory.relative) {
    load_address(out_, kR10, item.relative_target());
    if (!wide) out_.mov32(kR10, kR10);
  } else if (memory.base == kNoGeneral && memory.index == kNoGeneral) {
    const auto address = static_cast<uint64_t>(int64_t{item.displacement});
    out_.mov(kR10, wide ? address : address & 0xFFFF'FFFF);
  } else {
    Reg index = kRsp;
    if (memory.index != kNoGeneral) {
      index = static_cast<Reg>(memory.index);
      if (kSpilled & (1u << index)) {
        if (index != kR11 || !has_r11) out_.cpu_load(kR11, layout_.gpr(index));
        index = kR11;
      }
    }
    if (memory.base == kNoGeneral) {
      out_.lea_index(kR10, index, memory.scale, item.displacement, wide);
    } else {
      auto base = static_cast<Reg>(memory.base);
      if (kSpilled & (1u << base)) {
        if (base != kR10 || !has_r10) out_.cpu_load(kR10, layout_.gpr(base));
        base = kR10;
      }
      if (index == kRsp && item.displacement == 0 && wide) {
        if (base != kR10) out_.mov(kR10, base);
      } else {
        out_.lea(kR10, base, index, memory.scale, item.displacement, wide);
      }
    }
  }
}

void Emitter::add_segment_base(const Item& item) {
  const Address::Segment segment = item.address.segment;
  if (segment == Address::Segment::kFlat) return;
  const bool fs = segment == Address::Segment::kFs;
  out_.cpu_load(kR11, fs ? layout_.fs_base : layout_.gs_base);
  out_.lea(kR10, kR10, kR11, 0, 0, wide());
  if (!kind_.code32) return;
  out_.cpu_load(kR11, layout_.segment_guards[fs ? 0 : 1]);
  out_.lea(kR10, kR10, kR11, 0, 0);
}

void Emitter::linear_address(const Item& item) {
  effective_address(item);
  add_segment_base(item);
}

/// R11: the bank's entry for the page at R10. R10: minus the tag at `tag`. A jump, whose
/// displacement's place is returned, is taken if that is not where `size` bytes of a page begin.
CodeOffset Emitter::ask_bank(unsigned size, int32_t tag) {
  if (interpret::native::host_features().bmi2) {
    out_.rorx32(kR11, kR10, 12 - 5);
  } else {
    out_.mov32(kR11, kR10);
    out_.shr32(kR11, 12 - 5);
  }
  out_.and32(kR11, static_cast<uint32_t>(DataBank::kMask) << 5);
  out_.cpu_add(kR11, layout_.data_bank);
  out_.sub_memory(kR10, kR11, tag);
  out_.cmp(kR10, static_cast<int32_t>(4096 - size));
  return out_.jump_if(static_cast<uint8_t>(Condition::kAbove));
}

/// Behind ask_bank(): whether the page is at an edge of the 32-bit addresses, where registers that
/// are the window's address but for a displacement may have wrapped around. Condition: not below.
void Emitter::ask_whether_edge(int32_t tag) {
  static_assert(kEdge == 0x2000);
  out_.load(kR10, kR11, tag);
  out_.lea(kR10, kR10, -static_cast<int32_t>(kEdge), false);
  out_.cmp32(kR10, -2 * kEdge);
}

/// Whether the bytes at R10 are those of one page whose entry is there. Then R10 becomes their host
/// address; or the difference of host and guest addresses; or, in two, R10 and R11 become what the
/// host address is the sum of.
void Emitter::look_up(unsigned size, bool write, Wanted wanted, Flags flags) {
  const int32_t tag = write ? kWriteTag : kReadTag;
  r10_window_ = r11_window_ = 0;
  if (flags == Flags::kLive) save_flags();
  const CodeOffset place = ask_bank(size, tag);
  auto of = CallSite::Of::kAddress;
  CodeOffset edge = 0;
  switch (wanted) {
    case Wanted::kAddress:
      out_.add_memory(kR10, kR11, kHost);
      break;
    case Wanted::kInTwo:
      out_.load(kR11, kR11, kHost);
      break;
    case Wanted::kDifference:
      out_.load(kR10, kR11, kDifference);
      of = CallSite::Of::kDifference;
      break;
    case Wanted::kVarying:
      ask_whether_edge(tag);
      edge = out_.jump_if(Condition::kNotBelow);
      [[fallthrough]];
    case Wanted::kWindow:
      out_.load(kR10, kR11, kDifference);
      of = CallSite::Of::kWindow;
      break;
  }
  Cold miss{.what = Cold::What::kMiss,
            .restore_flags = flags != Flags::kDead,
            .place = place,
            .index = index_,
            .resume = out_.here(),
            .size = static_cast<uint16_t>(size),
            .write = write,
            .faults = faults_plainly_,
            .of = of};
  cold_.push_back(miss);
  if (edge != 0) {
    miss.what = Cold::What::kAtEdge;
    miss.place = edge;
    cold_.push_back(miss);
  }
  if (flags == Flags::kLive) restore_flags();
}

void Emitter::to_host(unsigned size, bool write, Flags flags) {
  look_up(size, write, Wanted::kAddress, flags);
}

HostOperand Emitter::reach_r10(unsigned size, bool write, bool flags_live, bool may_hold) {
  look_up(size, write, may_hold ? Wanted::kInTwo : Wanted::kAddress,
          flags_live ? Flags::kLive : Flags::kDead);
  return may_hold ? HostOperand{.index = kR11} : HostOperand{};
}

/// R10: [base + displacement], where the base has a place of its own in the host.
HostOperand Emitter::reach_base(Reg base, int32_t displacement, unsigned size, bool write,
                                bool flags_live) {
  look_up(size, write, Wanted::kDifference, flags_live ? Flags::kLive : Flags::kDead);
  return {.base = base, .index = kR10, .displacement = displacement};
}

/// R10: where the window begins.
void Emitter::window_address(const Window& window) {
  const auto base = static_cast<Reg>(window.base);
  const auto index = window.index == Window::kNone ? kRsp : static_cast<Reg>(window.index);
  if (window.base == Window::kNone)
    out_.lea_index(kR10, index, window.scale, window.displacement);
  else if (index == kRsp && window.displacement == 0)
    out_.mov(kR10, base);
  else
    out_.lea(kR10, base, index, window.scale, window.displacement);
}

/// Those of one item. Flags that are live are put aside once for all windows that can do without
/// them and RAX meanwhile.
void Emitter::open_windows(std::span<const Window> windows, bool flags_live) {
  const auto shares = [&](const Window& window) {
    return flags_live && !window.stack && window.base != kRax && window.index != kRax;
  };
  for (const Window& window : windows)
    if (!shares(window)) open_window(window, flags_live ? Flags::kLive : Flags::kDead);
  if (std::ranges::none_of(windows, shares)) return;
  save_flags();
  for (const Window& window : windows)
    if (shares(window)) open_window(window, Flags::kSaved);
  restore_flags();
}

/// R10: the difference of host and guest addresses, which Context::windows gets, too.
void Emitter::open_window(const Window& window, Flags flags) {
  of_stack_[window.number] = window.stack;
  has_base_[window.number] = false;
  if (window.stack) return open_stack(window, flags == Flags::kLive);
  window_address(window);
  look_up(window.size, window.write, window.varies ? Wanted::kVarying : Wanted::kWindow, flags);
  out_.cpu_store(layout_.window(window.number), kR10);
  r10_window_ = window.number;
}

/// The same by StackPage, which has the difference.
void Emitter::open_stack(const Window& window, bool flags_live) {
  const auto base = static_cast<Reg>(window.base);
  const int32_t page = layout_.stack_page[kind_.user ? 1 : 0];
  const int32_t minus_page = page + static_cast<int32_t>(offsetof(StackPage, minus_page));
  const int32_t difference = page + static_cast<int32_t>(offsetof(StackPage, difference));
  Cold miss{.what = Cold::What::kStackMiss,
            .restore_flags = flags_live,
            .index = index_,
            .size = window.size,
            .write = window.write,
            .of = CallSite::Of::kStack,
            .polls = window.polls,
            .base = base,
            .displacement = window.displacement};
  r11_window_ = 0;  // a miss changes R11
  out_.cpu_load(kR10, minus_page);
  if (!flags_live) {
    out_.lea(kR10, base, kR10, 0, window.displacement);
    out_.cmp(kR10, 4096 - window.size);
    miss.place = out_.jump_if(Condition::kAbove);
  } else {
    // The first byte's page and the last one's, both of them 0.
    constexpr unsigned kMissSize = 8;
    out_.mov(kR11, kRcx);
    out_.lea(kRcx, base, kR10, 0, window.displacement);
    out_.lea(kR10, base, kR10, 0, window.displacement + window.size - 1);
    out_.cpu_pext(kRcx, kRcx, layout_.page_mask);
    out_.cpu_pext(kR10, kR10, layout_.page_mask);
    out_.lea(kRcx, kRcx, kR10, 0, 0);
    out_.byte(0xE3);  // JRCXZ over the miss
    out_.byte(kMissSize);
    out_.mov(kRcx, kR11);
    miss.place = out_.jump();
    out_.mov(kRcx, kR11);
  }
  out_.cpu_load(kR10, difference);
  miss.resume = out_.here();
  cold_.push_back(miss);
  r10_window_ = window.number;
}

/// Has the window's difference in R10 or, if `may_hold` says that it is free, R11.
Reg Emitter::hold_window(unsigned number, bool may_hold) {
  if (r10_window_ == number) return kR10;
  if (r11_window_ == number) {
    if (may_hold) return kR11;
    out_.mov(kR10, kR11);
    r10_window_ = number;
    return kR10;
  }
  const Reg reg = may_hold && r10_window_ != 0 ? kR11 : kR10;
  load_window(reg, number);
  (reg == kR10 ? r10_window_ : r11_window_) = number;
  return reg;
}

/// The difference of one that is open.
void Emitter::load_window(Reg reg, unsigned number) {
  out_.cpu_load(reg, of_stack_[number] ? layout_.stack_page[kind_.user ? 1 : 0] +
                                             static_cast<int32_t>(offsetof(StackPage, difference))
                                       : layout_.window(number));
}

HostOperand Emitter::reach_memory(const Item& item, unsigned size, bool write, bool may_hold) {
  if (item.window == 0) {
    linear_address(item);
    if (!is_base_alone(item)) return reach_r10(size, write, item.flags_live, may_hold);
    return reach_base(static_cast<Reg>(item.address.base), item.displacement, size, write,
                      item.flags_live);
  }
  const Reg window = hold_window(item.window, may_hold);
  const Address& memory = item.address;
  const auto base = static_cast<Reg>(memory.base), index = static_cast<Reg>(memory.index);
  if (memory.index == kNoGeneral)
    return {.base = base, .index = window, .displacement = item.displacement};
  if (memory.base == kNoGeneral || has_base_[item.window])
    return {
        .base = window, .index = index, .scale = memory.scale, .displacement = item.displacement};
  out_.lea(kR10, base, window, 0, 0);  // RSP can only be a base
  r10_window_ = 0;
  return {.index = index, .scale = memory.scale, .displacement = item.displacement};
}

/// A word at [base + displacement].
HostOperand Emitter::reach_stack(const Item& item, Reg base, int32_t displacement, bool write,
                                 bool may_hold) {
  if (item.stack_window == 0) {
    if (displacement == 0)
      out_.mov(kR10, base);
    else
      out_.lea(kR10, base, displacement, wide());
    if (kind_.code32 && displacement != 0)
      return reach_r10(kind_.word(), write, item.flags_live, may_hold);
    return reach_base(base, displacement, kind_.word(), write, item.flags_live);
  }
  return {.base = base,
          .index = hold_window(item.stack_window, may_hold),
          .displacement = displacement + (base == kRsp ? pending_rsp_ : 0)};
}

/// The item's own bytes with `operand` for the memory operand and R11 for the guest's register
/// `in_r11`, if it is not kNoRegister. `operand` does not need the register that the item names a
/// high byte of.
void Emitter::rewrite(const Item& item, unsigned in_r11, const HostOperand& operand) {
  const bool reg_in_r11 = in_r11 != kNoRegister && item.named_reg == in_r11;
  const bool vvvv_in_r11 = in_r11 != kNoRegister && item.named_vvvv == in_r11;
  const uint8_t reg = reg_in_r11 ? 3 : item.high_byte ? item.modrm_reg & 3 : item.modrm_reg;
  const auto& extension = item.extension;
  // X and B as VEX and EVEX have them.
  const unsigned inverted = (operand.index > 7 ? 0u : 0x40u) | (operand.base > 7 ? 0u : 0x20u);
  Assembler::Piece code;
  switch (item.encoding) {
    case Encoding::kLegacy:
      for (const uint8_t prefix : std::span(item.bytes).first(item.prefix_count))
        if (prefix == 0xF0 || prefix == 0x66 || prefix == 0xF2 || prefix == 0xF3) out_.byte(prefix);
      code.byte(0x40u | (extension[0] & 8u) | (reg_in_r11 ? 4u : extension[0] & 4u) |
                (operand.index > 7 ? 2u : 0u) | (operand.base > 7 ? 1u : 0u));
      if (item.map != ZYDIS_OPCODE_MAP_DEFAULT) code.byte(0x0F);
      if (item.map == ZYDIS_OPCODE_MAP_0F38) code.byte(0x38);
      if (item.map == ZYDIS_OPCODE_MAP_0F3A) code.byte(0x3A);
      break;
    case Encoding::kVex:
      code.byte(0xC4);
      code.byte((reg_in_r11 ? 0u : extension[0] & 0x80u) | inverted | (extension[0] & 0x1Fu));
      code.byte(vvvv_in_r11 ? (extension[1] & 0x87u) | (~11u & 15u) << 3 : extension[1]);
      break;
    case Encoding::kEvex:
      code.byte(0x62);
      code.byte((reg_in_r11 ? (extension[0] & 0x0Fu) | 0x10u : extension[0] & 0x9Fu) | inverted);
      code.byte(extension[1]);
      code.byte(extension[2]);
      break;
  }
  code.byte(item.opcode);
  out_.piece(code);
  out_.operand(reg, operand, item.encoding == Encoding::kEvex);
  if (item.immediate_size != 0) out_.bytes(item.code().subspan(item.immediate_offset));
}

}  // namespace limen::soft::translate
