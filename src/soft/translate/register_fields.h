// Instructions that differ in nothing but the registers that they name have one form, with
// stand-ins for these.
#pragma once

#include <cstdint>

#include "soft/decode/layout.h"
#include "soft/translate/item.h"

namespace limen::soft::translate {

/// What REX, ModRM and SIB name in an instruction of which stand-ins make another one of the same
/// form. R10, R11 and RSP, with which more than a name may change, stay as they are, but for in
/// addresses. Inline, as it is part of looking up each instruction.
class RegisterFields {
 public:
  [[gnu::always_inline]] RegisterFields(const decode::InstructionBytes& bytes,
                                        const decode::Layout& layout) {
    // Sums in place of branches, which would be hard to predict.
    const unsigned rex = layout.rex != 0 ? bytes[layout.rex - 1u] : 0u;
    const unsigned modrm = bytes[layout.modrm];
    const unsigned sib = bytes[(layout.modrm + 1u) & 15];
    const bool no_displacement = modrm < 0x40;
    const unsigned reg = (modrm >> 3 & 7) | (rex << 1 & 8);
    const unsigned rm = (modrm & 7) | (rex << 3 & 8);
    const unsigned sib_base = (sib & 7) | (rex << 3 & 8);
    const unsigned index = (sib >> 3 & 7) | (rex << 2 & 8);
    const bool has_sib = layout.names_address & layout.sib;
    const bool names_reg = layout.names_reg & !is_special(reg);
    const bool names_base = has_sib & !(no_displacement & ((sib & 7) == 5));
    const bool names_rm =
        (layout.names_rm & !is_special(rm)) |
        (layout.names_address & !layout.sib & !(no_displacement & ((modrm & 7) == 5)));
    names_index_ = has_sib & (index != kNoIndex);
    const auto where = [](bool is, unsigned value) { return is ? value : 0u; };
    replace(layout.modrm, where(names_reg, 7 << 3) | where(names_rm, 7),
            where(names_reg, kReg << 3) | where(names_rm, kRm));
    replace(layout.modrm + 1u, where(names_base, 7) | where(names_index_, 0xF8),
            where(names_base, kRm) | where(names_index_, kIndex << 3));
    replace(layout.rex - 1u,
            where(layout.rex != 0, where(names_reg, kRexR) | where(names_index_, kRexX) |
                                       where(names_rm | names_base, kRexB)),
            0);
    rex_ = static_cast<uint8_t>(rex);
    scale_ = static_cast<uint8_t>(sib >> 6);
    reg_ = static_cast<uint8_t>(names_reg ? reg : kReg);
    rm_ = static_cast<uint8_t>(names_rm ? rm : names_base ? sib_base : kRm);
    index_ = static_cast<uint8_t>(names_index_ ? index : kIndex);
  }

  /// Puts the stand-ins' numbers into the first eight bytes of the instruction, least significant
  /// byte first.
  [[nodiscard]] uint64_t stand_in(uint64_t bytes) const { return (bytes & ~mask_) | stand_ins_; }

  /// From a form with stand-ins to that of the instruction itself.
  [[gnu::always_inline]] void name(Form& form) const {
    for (Operand& operand : form.operands) {
      // There are eight MMX registers, whatever REX says.
      const bool mmx = operand.type == Operand::Type::kOtherRegister && operand.size == 8;
      const unsigned mask = mmx ? 7 : 15;
      operand.number = static_cast<uint8_t>(operand.number == kReg  ? reg_ & mask
                                            : operand.number == kRm ? rm_ & mask
                                                                    : operand.number);
    }
    form.registers_read = renamed(form.registers_read);
    form.registers_written = renamed(form.registers_written);
    if (form.modrm_reg == kReg) form.modrm_reg = reg_ & 7;
    if (form.named_reg == kReg) form.named_reg = reg_;
    if (rex_ != 0) form.extension[0] = rex_;
    if (form.address.base == kRm) form.address.base = rm_;
    if (names_index_ && form.address.index == kIndex) {
      form.address.index = index_;
      form.address.scale = scale_;
    }
  }

 private:
  // No instruction with ModRM has these as hidden operands, or needs REX for them.
  static constexpr uint8_t kReg = 5, kRm = 6, kIndex = 7;
  static constexpr uint8_t kRexB = 1, kRexX = 2, kRexR = 4;
  static constexpr uint8_t kNoIndex = 4;

  /// Whether to be this register means more than a name.
  static bool is_special(unsigned number) { return (0x0C10u >> number & 1) != 0; }
  /// Beyond the first eight bytes it does not matter: such a form is not kept.
  void replace(unsigned byte, unsigned mask, unsigned value) {
    mask_ |= uint64_t{mask} << (8 * byte & 63);
    stand_ins_ |= uint64_t{value} << (8 * byte & 63);
  }
  [[nodiscard]] uint16_t renamed(unsigned registers) const {
    constexpr unsigned kStandIns = 1u << kReg | 1u << kRm | 1u << kIndex;
    const auto moved = [&](unsigned from, unsigned to) { return (registers >> from & 1) << to; };
    return static_cast<uint16_t>((registers & ~kStandIns) | moved(kReg, reg_) | moved(kRm, rm_) |
                                 moved(kIndex, index_));
  }

  uint64_t mask_ = 0;
  uint64_t stand_ins_ = 0;
  // Where nothing is named, what has the stand-in's number is itself.
  uint8_t reg_ = kReg, rm_ = kRm, index_ = kIndex;
  uint8_t scale_ = 0;
  bool names_index_ = false;
  uint8_t rex_ = 0;
};

}  // namespace limen::soft::translate
