#include "soft/translate/item.h"

#include "soft/translate/draft.h"

namespace limen::soft::translate {
namespace {

/// CF PF AF ZF SF OF, in this order, from bits 0, 2, 4, 6, 7 and 11.
uint8_t compact_flags(uint32_t flags) {
  return static_cast<uint8_t>((flags & 1) | (flags >> 1 & 2) | (flags >> 2 & 4) | (flags >> 3 & 8) |
                              (flags >> 3 & 16) | (flags >> 6 & 32));
}

/// Shifts and rotates leave every flag alone where their count is 0, comparisons of the x87 unit
/// where they raise an exception that is not masked.
bool may_keep_flags(const decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_FCOMI:
    case ZYDIS_MNEMONIC_FCOMIP:
    case ZYDIS_MNEMONIC_FUCOMI:
    case ZYDIS_MNEMONIC_FUCOMIP:
      return true;
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
      break;
    default:
      return false;
  }
  const auto& count = instruction.operands[instruction.raw.operand_count_visible - 1];
  if (count.type != ZYDIS_OPERAND_TYPE_IMMEDIATE) return true;
  return (count.imm.value.u & (instruction.raw.operand_width == 64 ? 63 : 31)) == 0;
}

/// Of some instructions, processors leave flags alone that the manual calls undefined.
bool may_keep_undefined_flags(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MUL:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_BSF:
    case ZYDIS_MNEMONIC_BSR:
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTC:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
    case ZYDIS_MNEMONIC_BZHI:
    case ZYDIS_MNEMONIC_LZCNT:
    case ZYDIS_MNEMONIC_TZCNT:
      return true;
    default:
      return false;
  }
}

void note_flags(Draft& item) {
  const auto* flags = item.instruction.raw.cpu_flags;
  if (flags == nullptr) return;
  item.flags_read = compact_flags(flags->tested);
  if (may_keep_flags(item.instruction)) return;
  uint32_t written = flags->modified | flags->set_0 | flags->set_1;
  if (!may_keep_undefined_flags(item.instruction.mnemonic())) written |= flags->undefined;
  item.flags_written = compact_flags(written);
}
/// Of what kind_of_system() and kind_of_system_move() name, those behind which the block ends.
bool ends_block(Kind kind) {
  switch (kind) {
    case Kind::kSystemCall:
    case Kind::kSystemReturn:
    case Kind::kInterruptReturn:
    case Kind::kLoadCr3:
    case Kind::kInvalidatePage:
      return true;
    default:
      return false;
  }
}

/// Whether a string instruction is CMPS or SCAS.
bool compares(uint8_t opcode) { return (opcode & 0xFE) == 0xA6 || (opcode & 0xFE) == 0xAE; }

/// Whether flags stay what they are, or matter little, whatever the decoder's table says.
bool keeps_flags(const Draft& item) {
  switch (item.kind) {
    case Kind::kStringOnce:
      return !compares(item.instruction.raw.opcode);
    case Kind::kReadSelector:
    case Kind::kReadControl:  // undefined by the manual, and kept by processors
    case Kind::kLoadCr3:
    case Kind::kInvalidatePage:
      return true;
    default:
      return false;
  }
}
/// Whether nothing of higher priority can be wrong with the memory operand, and all of it counts:
/// no alignment that is checked, no mask.
bool faults_plainly(const Draft& item) {
  const auto& raw = item.instruction.raw;
  if (item.x87 != X87::kNothing) return false;  // an exception that is pending comes first
  const bool masked =
      raw.avx.mask.reg != ZYDIS_REGISTER_NONE && raw.avx.mask.reg != ZYDIS_REGISTER_K0;
  switch (raw.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVDQA32:
    case ZYDIS_MNEMONIC_VMOVDQA64:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_VCVTPS2PH:  // has other exceptions first
      return false;
    case ZYDIS_MNEMONIC_MOVSXD:  // reads a word into a word, whatever the decoder says
      return raw.operand_width != 16;
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
      return true;
    default:
      break;
  }
  return raw.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? item.memory_size <= 8 : !masked;
}
/// Where in the bytes is what (SDM Vol. 2A 2.1, 2.3.5, 2.7.1).
void note_encoding(Draft& item) {
  const auto& instruction = item.instruction;
  const auto& raw = instruction.raw.raw;
  const auto bit = [](unsigned value, unsigned shift) { return value != 0 ? 1u << shift : 0u; };
  switch (instruction.raw.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
      item.encoding = Encoding::kVex;
      item.extension = {static_cast<uint8_t>(bit(raw.vex.R, 7) | raw.vex.m_mmmm),
                        static_cast<uint8_t>(bit(raw.vex.W, 7) | unsigned{raw.vex.vvvv} << 3 |
                                             bit(raw.vex.L, 2) | raw.vex.pp)};
      break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
      item.encoding = Encoding::kEvex;
      std::copy_n(instruction.bytes.begin() + raw.evex.offset + 1, 3, item.extension.begin());
      break;
    default:
      if (instruction.has(ZYDIS_ATTRIB_HAS_REX))
        item.extension[0] = static_cast<uint8_t>(0x40 | bit(raw.rex.W, 3) | bit(raw.rex.R, 2) |
                                                 bit(raw.rex.X, 1) | bit(raw.rex.B, 0));
      break;
  }
  item.prefix_count = raw.prefix_count;
  item.map = static_cast<uint8_t>(instruction.raw.opcode_map);
  item.opcode = instruction.raw.opcode;
  item.modrm_reg = raw.modrm.reg;
  item.displacement_offset = raw.disp.offset;
  item.displacement_size = static_cast<uint8_t>(raw.disp.size / 8);
  item.immediate_offset = raw.imm[0].offset;
  item.immediate_size = static_cast<uint8_t>(raw.imm[0].size / 8);
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    const auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER || !is_general(operand.reg.value)) continue;
    if (operand.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
      item.named_reg = general_number(operand.reg.value);
    if (operand.encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
      item.named_vvvv = general_number(operand.reg.value);
  }
}

/// MOV with an absolute address (A0H to A3H) in 32-bit code: the other opcode for the same, which
/// has ModRM.
void name_by_modrm(Draft& item) {
  if (item.encoding != Encoding::kLegacy || item.map != ZYDIS_OPCODE_MAP_DEFAULT ||
      (item.opcode & 0xFC) != 0xA0)
    return;
  item.opcode = static_cast<uint8_t>(0x88 | (item.opcode & 1) | (~item.opcode & 2));
  item.modrm_reg = item.named_reg = 0;
}

/// kPlain: whether nothing can keep what follows from running at once.
bool stays_inside(const Draft& item) {
  return !item.has_memory && item.instruction.raw.meta.isa_ext == ZYDIS_ISA_EXT_BASE &&
         !item.is(ZYDIS_MNEMONIC_DIV) && !item.is(ZYDIS_MNEMONIC_IDIV);
}

}  // namespace

Form classify(const decode::Instruction& instruction, CodeKind kind, const x86::CpuidTable& cpuid) {
  Draft item(instruction);
  item.code32 = kind.code32;
  item.mnemonic = static_cast<uint16_t>(instruction.mnemonic());
  item.operand_size = static_cast<uint8_t>(instruction.raw.operand_width / 8);
  item.kind = kind_of(item, kind, cpuid);
  item.ends_block = ends_block(item.kind);
  item.x87 =
      item.kind == Kind::kPlain ? interpret::native::x87_use(item.instruction) : X87::kNothing;
  item.faults_plainly = item.kind != Kind::kPlain || faults_plainly(item);
  item.stays_inside = item.kind == Kind::kPlain && stays_inside(item);
  if (item.has_memory) item.address = address_of(item);
  for (size_t i = 0; i < item.operands.size(); ++i)
    item.operands[i] = summarize(instruction.operands[i]);
  note_encoding(item);
  if (kind.code32) name_by_modrm(item);
  if (item.kind == Kind::kInterpret || item.kind == Kind::kPushFlags ||
      (item.ends_block && !keeps_flags(item)))
    item.flags_read = kAllFlags;
  else if (!keeps_flags(item))
    note_flags(item);
  return item;
}

}  // namespace limen::soft::translate
