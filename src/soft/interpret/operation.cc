#include "soft/interpret/operation.h"

#include <bit>

#include "soft/interpret/operand.h"
#include "soft/interpret/select.h"

namespace limen::soft::interpret {

uint8_t register_number(ZydisRegister reg) {
  if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_IP) return kNextRip;
  if (reg == ZYDIS_REGISTER_NONE) return kZeroRegister;
  const auto id = static_cast<uint8_t>(ZydisRegisterGetId(reg));
  if (ZydisRegisterGetClass(reg) != ZYDIS_REGCLASS_GPR8) return id;
  // Zydis counts AL-BL, AH-BH, SPL-DIL, R8B-R15B.
  if (id < 4) return id;
  return id < 8 ? static_cast<uint8_t>(20 + id - 4) : static_cast<uint8_t>(id - 4);
}

namespace {

void fill_memory_operand(const ZydisDecodedOperand& operand, Operation& operation) {
  operation.flags |= Operation::kMemory;
  operation.base = register_number(operand.mem.base);
  operation.index = register_number(operand.mem.index);
  operation.scale =
      operand.mem.scale ? static_cast<uint8_t>(std::countr_zero(operand.mem.scale)) : 0;
  operation.displacement = static_cast<int32_t>(operand.mem.disp.value);
  operation.segment = static_cast<uint8_t>(ZydisRegisterGetId(operand.mem.segment));
  if (operand.encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64) {  // MOV with an absolute offset
    // The decoder sign-extends what is an unsigned offset.
    const unsigned unused_bits = 64u - 8u * operation.address_size;
    operation.immediate =
        static_cast<uint64_t>(operand.mem.disp.value) << unused_bits >> unused_bits;
  }
}

/// The segment of an implicit operand in DS that a prefix may move elsewhere, and that the decoder
/// does not show.
uint8_t implicit_segment(const decode::Instruction& instruction) {
  uint8_t segment = x86::kDs;
  for (unsigned i = 0; i < instruction.raw.raw.prefix_count; ++i) {
    const uint8_t prefix = instruction.raw.raw.prefixes[i].value;
    if (prefix == 0x64 || prefix == 0x65)
      segment = prefix == 0x64 ? x86::kFs : x86::kGs;
    else if ((prefix & 0xE7) == 0x26 && instruction.mode != decode::CodeMode::k64)
      segment = prefix >> 3 & 3;
  }
  return segment;
}

}  // namespace

void fill_operation(const decode::Instruction& instruction, Operation& operation) {
  const auto& raw = instruction.raw;
  operation.mnemonic = static_cast<uint16_t>(raw.mnemonic);
  operation.length = raw.length;
  operation.operand_size = static_cast<uint8_t>(raw.operand_width / 8);
  operation.address_size = static_cast<uint8_t>(raw.address_width / 8);
  operation.bytes = instruction.bytes;
  if (instruction.has(ZYDIS_ATTRIB_HAS_LOCK)) operation.flags |= Operation::kLock;
  if (instruction.has(ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
    operation.flags |= Operation::kRep;
  if (instruction.has(ZYDIS_ATTRIB_HAS_REPNE)) operation.flags |= Operation::kRepne;

  if (raw.mnemonic == ZYDIS_MNEMONIC_CLZERO) operation.segment = implicit_segment(instruction);
  unsigned immediates = 0;
  for (unsigned i = 0; i < raw.operand_count_visible; ++i) {
    const auto& operand = instruction.operands[i];
    switch (operand.type) {
      case ZYDIS_OPERAND_TYPE_REGISTER:
        if (operand.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
          operation.rm = register_number(operand.reg.value);
        else if (operand.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG ||
                 operand.encoding == ZYDIS_OPERAND_ENCODING_OPCODE)
          operation.reg = register_number(operand.reg.value);
        break;
      case ZYDIS_OPERAND_TYPE_MEMORY:
        if (operand.encoding != ZYDIS_OPERAND_ENCODING_NONE)
          fill_memory_operand(operand, operation);
        break;
      case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        // ENTER has two: the second goes above the first.
        if (immediates++ == 0)
          operation.immediate = operand.imm.value.u;
        else
          operation.immediate = (operation.immediate & 0xFFFF) | (operand.imm.value.u << 16);
        break;
      case ZYDIS_OPERAND_TYPE_POINTER:
        operation.immediate =
            (uint64_t{operand.ptr.segment} << 32) | static_cast<uint32_t>(operand.ptr.offset);
        break;
      default:
        break;
    }
  }
}

void invalid_opcode(Cpu&, const Operation&) { Cpu::raise(x86::Exception::invalid_opcode()); }

}  // namespace limen::soft::interpret
