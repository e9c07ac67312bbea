// What an instruction's operands are.
#include <bit>

#include "soft/translate/draft.h"

namespace limen::soft::translate {

namespace {

/// Whether something may be left of what a general register held that is not read.
bool keeps_part(const decode::Instruction& instruction, const ZydisDecodedOperand& operand) {
  if (instruction.raw.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) return false;
  return operand.size < 32 || (operand.actions & ZYDIS_OPERAND_ACTION_CONDWRITE) != 0 ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_BSF ||
         instruction.mnemonic() == ZYDIS_MNEMONIC_BSR;
}

}  // namespace

bool note_operands(Draft& item) {
  const auto& instruction = item.instruction;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    switch (operand.type) {
      case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        break;
      case ZYDIS_OPERAND_TYPE_MEMORY:
        if (operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM &&
            !(item.code32 && operand.encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64))
          return false;
        if (item.has_memory) return false;
        if (operand.mem.type != ZYDIS_MEMOP_TYPE_MEM && operand.mem.type != ZYDIS_MEMOP_TYPE_AGEN)
          return false;
        item.has_memory = true;
        item.memory_operand = static_cast<uint8_t>(i);
        item.memory_size = static_cast<uint16_t>(operand.size / 8);
        item.reads_memory = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
        item.writes_memory = (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
        break;
      case ZYDIS_OPERAND_TYPE_REGISTER: {
        const ZydisRegister reg = operand.reg.value;
        if (is_general(reg)) {
          const auto bit = static_cast<uint16_t>(1u << general_number(reg));
          if ((operand.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0 ||
              keeps_part(instruction, operand))
            item.registers_read |= bit;
          if (operand.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) item.registers_written |= bit;
          break;
        }
        switch (ZydisRegisterGetClass(reg)) {
          case ZYDIS_REGCLASS_X87:
          case ZYDIS_REGCLASS_MMX:
          case ZYDIS_REGCLASS_XMM:
          case ZYDIS_REGCLASS_YMM:
          case ZYDIS_REGCLASS_ZMM:
          case ZYDIS_REGCLASS_MASK:
          case ZYDIS_REGCLASS_FLAGS:
            break;
          default:
            if (reg != ZYDIS_REGISTER_MXCSR && reg != ZYDIS_REGISTER_X87CONTROL &&
                reg != ZYDIS_REGISTER_X87STATUS && reg != ZYDIS_REGISTER_X87TAG)
              return false;
            break;
        }
        break;
      }
      default:
        return false;
    }
  }
  return true;
}

bool note_register_or_memory(Draft& item) {
  const auto& operand = item.instruction.operands[0];
  if (operand.type == ZYDIS_OPERAND_TYPE_MEMORY) {
    if (operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM) return false;
    item.has_memory = item.reads_memory = true;
    item.memory_operand = 0;
    item.memory_size = static_cast<uint16_t>(item.word());
  }
  return operand.size == 8 * item.word();
}

bool can_lend_low_byte(Draft& item) {
  const auto& instruction = item.instruction;
  unsigned registers = 0;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !is_general(operand.reg.value)) continue;
    ++registers;
    if (operand.reg.value >= ZYDIS_REGISTER_AH && operand.reg.value <= ZYDIS_REGISTER_BH)
      item.high_byte = true;
  }
  return !item.high_byte || registers == 1;
}

bool can_name_registers(const Draft& item) {
  constexpr uint16_t kSpilled = (1u << 10) | (1u << 11);
  if ((item.registers_read & kSpilled) == kSpilled) return false;
  const auto& instruction = item.instruction;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type == ZYDIS_OPERAND_TYPE_REGISTER && is_general(operand.reg.value) &&
        ((1u << general_number(operand.reg.value)) & kSpilled) != 0 &&
        operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_REG &&
        operand.encoding != ZYDIS_OPERAND_ENCODING_NDSNDD)
      return false;
  }
  return true;
}

Operand summarize(const ZydisDecodedOperand& operand) {
  switch (operand.type) {
    case ZYDIS_OPERAND_TYPE_REGISTER: {
      const ZydisRegister reg = operand.reg.value;
      const bool general = is_general(reg);
      return {
          .type = general ? Operand::Type::kGeneral : Operand::Type::kOtherRegister,
          .number = general ? general_number(reg) : static_cast<uint8_t>(ZydisRegisterGetId(reg)),
          .size = static_cast<uint8_t>(ZydisRegisterGetWidth(ZYDIS_MACHINE_MODE_LONG_64, reg) / 8)};
    }
    case ZYDIS_OPERAND_TYPE_MEMORY:
      return {.type = Operand::Type::kMemory};
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
      return {.type = Operand::Type::kImmediate};
    default:
      return {};
  }
}

Address address_of(const Draft& item) {
  const auto& memory = item.memory().mem;
  const auto number = [](ZydisRegister reg) {
    return is_general(reg) ? general_number(reg) : kNoGeneral;
  };
  using Segment = Address::Segment;
  return {.base = number(memory.base),
          .index = number(memory.index),
          .scale = static_cast<uint8_t>(memory.scale != 0 ? std::countr_zero(memory.scale) : 0),
          .segment = memory.segment == ZYDIS_REGISTER_FS   ? Segment::kFs
                     : memory.segment == ZYDIS_REGISTER_GS ? Segment::kGs
                                                           : Segment::kFlat,
          .relative = memory.base == ZYDIS_REGISTER_RIP || memory.base == ZYDIS_REGISTER_EIP,
          .wide = item.instruction.raw.address_width == 64};
}

}  // namespace limen::soft::translate
