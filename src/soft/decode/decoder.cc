#include "soft/decode/decoder.h"

#include <algorithm>

namespace limen::soft::decode {
namespace {

ZydisDecoder make_decoder(ZydisMachineMode machine, ZydisStackWidth stack) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, machine, stack);
  return decoder;
}

const ZydisDecoder& decoder_for(CodeMode mode) {
  static const std::array decoders = {
      make_decoder(ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16),
      make_decoder(ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32),
      make_decoder(ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64),
  };
  return decoders[static_cast<size_t>(mode)];
}

// Zydis 4.0 takes SIB.base 101B with MOD 00B for R13D where the address size is 32 bits and REX.B
// is set; like EBP it stands for no base at all (SDM Vol. 2A table 2-3, and 2.2.1.2: REX.B is not
// decoded).
void drop_false_base(Instruction& instruction) {
  const auto& raw = instruction.raw.raw;
  if (raw.modrm.mod != 0 || raw.modrm.rm != 4 || raw.sib.base != 5) return;
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i) {
    auto& operand = instruction.operands[i];
    if (operand.type != ZYDIS_OPERAND_TYPE_MEMORY ||
        operand.encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM ||
        operand.mem.base != ZYDIS_REGISTER_R13D)
      continue;
    operand.mem.base = ZYDIS_REGISTER_NONE;
    operand.mem.disp.has_displacement = true;
    operand.mem.disp.value = raw.disp.value;
  }
}

}  // namespace

Outcome decode(CodeMode mode, std::span<const uint8_t> bytes, Instruction& instruction) {
  if (bytes.empty()) return Outcome::kNeedMoreBytes;
  const size_t given = std::min<size_t>(bytes.size(), kMaxInstructionLength);
  const ZyanStatus status = ZydisDecoderDecodeFull(&decoder_for(mode), bytes.data(), given,
                                                   &instruction.raw, instruction.operands.data());
  if (ZYAN_SUCCESS(status)) {
    instruction.mode = mode;
    instruction.bytes = {};
    std::copy_n(bytes.begin(), instruction.raw.length, instruction.bytes.begin());
    if (instruction.raw.address_width == 32 && mode == CodeMode::k64) drop_false_base(instruction);
    return Outcome::kOk;
  }
  if (status == ZYDIS_STATUS_NO_MORE_DATA)
    return given < kMaxInstructionLength ? Outcome::kNeedMoreBytes : Outcome::kTooLong;
  if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) return Outcome::kTooLong;
  return Outcome::kInvalid;
}

bool is_hint(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_ENDBR32:
    case ZYDIS_MNEMONIC_ENDBR64:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHWT1:
      return true;
    default:
      return false;
  }
}

bool is_general(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
    case ZYDIS_REGCLASS_GPR8:
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      return true;
    default:
      return false;
  }
}

uint8_t general_number(ZydisRegister reg) {
  return static_cast<uint8_t>(
      ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg)));
}

}  // namespace limen::soft::decode
