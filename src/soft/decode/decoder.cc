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

}  // namespace

Outcome decode(CodeMode mode, std::span<const uint8_t> bytes, Instruction& instruction) {
  const size_t given = std::min<size_t>(bytes.size(), kMaxInstructionLength);
  const ZyanStatus status =
      ZydisDecoderDecodeFull(&decoder_for(mode), bytes.data(), given, &instruction.raw,
                             instruction.operands.data());
  if (ZYAN_SUCCESS(status)) {
    instruction.mode = mode;
    instruction.bytes = {};
    std::copy_n(bytes.begin(), instruction.raw.length, instruction.bytes.begin());
    return Outcome::kOk;
  }
  if (status == ZYDIS_STATUS_NO_MORE_DATA)
    return given < kMaxInstructionLength ? Outcome::kNeedMoreBytes : Outcome::kTooLong;
  if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) return Outcome::kTooLong;
  return Outcome::kInvalid;
}

}  // namespace limen::soft::decode
