// A form in the making, and the steps of making it.
#pragma once

#include "soft/translate/item.h"

namespace limen::soft::translate {

struct Draft : Form {
  explicit Draft(const decode::Instruction& of) : instruction(of) {}
  [[nodiscard]] const ZydisDecodedOperand& memory() const {
    return instruction.operands[memory_operand];
  }

  /// Bytes of an address.
  [[nodiscard]] unsigned word() const { return code32 ? 4 : 8; }

  const decode::Instruction& instruction;
  uint8_t memory_operand = 0;  ///< Index in instruction.operands.
};

using decode::general_number;
using decode::is_general;

// In item_operands.cc.
/// False where an operand is of a kind that cannot be carried over.
bool note_operands(Draft& item);
/// The operand of JMP, CALL or PUSH; false if it is not a whole word or in no place for ModRM.rm.
bool note_register_or_memory(Draft& item);
/// AH to BH cannot be named beside R10, which holds the address: the low byte lends its name, if no
/// other operand is a general register.
bool can_lend_low_byte(Draft& item);
/// Beside the address in R10 there is R11 for one register of the guest's that is read and has no
/// place of its own in the host. One that is only written may be either, the address having been
/// used by then.
bool can_name_registers(const Draft& item);
Operand summarize(const ZydisDecodedOperand& operand);
Address address_of(const Draft& item);

/// How the instruction is carried over. In item_kind.cc.
Kind kind_of(Draft& item, CodeKind kind, const x86::CpuidTable& cpuid);

}  // namespace limen::soft::translate
