#include "soft/decode/decoder.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <vector>

namespace limen::soft::decode {
namespace {

Outcome decode_bytes(CodeMode mode, const std::vector<uint8_t>& bytes, Instruction& instruction) {
  return decode(mode, bytes, instruction);
}

Outcome outcome_of(CodeMode mode, const std::vector<uint8_t>& bytes) {
  Instruction instruction;
  return decode_bytes(mode, bytes, instruction);
}

Instruction decoded(CodeMode mode, const std::vector<uint8_t>& bytes) {
  Instruction instruction{};
  EXPECT_EQ(decode_bytes(mode, bytes, instruction), Outcome::kOk);
  return instruction;
}

TEST(Decoder, AsksForMoreBytesWhileTheInstructionIsIncomplete) {
  // mov rax, imm64
  std::vector<uint8_t> bytes = {0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8};
  for (size_t given = 0; given < bytes.size(); ++given)
    EXPECT_EQ(outcome_of(CodeMode::k64, {bytes.begin(), bytes.begin() + static_cast<long>(given)}),
              Outcome::kNeedMoreBytes)
        << given;
  EXPECT_EQ(decoded(CodeMode::k64, bytes).length(), 10u);
}

TEST(Decoder, TakesNoNoticeOfBytesBehindTheInstruction) {
  const auto instruction = decoded(CodeMode::k64, {0x90, 0x0F, 0xFF, 0xFF});
  EXPECT_EQ(instruction.mnemonic(), ZYDIS_MNEMONIC_NOP);
  EXPECT_EQ(instruction.length(), 1u);
  EXPECT_EQ(instruction.bytes[0], 0x90);
  EXPECT_EQ(instruction.bytes[1], 0) << "bytes behind the instruction are not kept";
}

TEST(Decoder, AcceptsFifteenBytesAndNoMore) {
  std::vector<uint8_t> bytes(14, 0x66);
  bytes.push_back(0x90);
  EXPECT_EQ(decoded(CodeMode::k64, bytes).length(), 15u);
  bytes.insert(bytes.begin(), 0x66);
  EXPECT_EQ(outcome_of(CodeMode::k64, bytes), Outcome::kTooLong);
  // The length counts before the opcode is known to be missing.
  EXPECT_EQ(outcome_of(CodeMode::k64, std::vector<uint8_t>(14, 0x66)), Outcome::kNeedMoreBytes);
  EXPECT_EQ(outcome_of(CodeMode::k64, std::vector<uint8_t>(15, 0x66)), Outcome::kTooLong);
}

TEST(Decoder, TooLongBecauseOfTheImmediate) {
  // Ten prefixes, then mov dword [rax], imm32: 16 bytes.
  std::vector<uint8_t> bytes(10, 0x2E);
  for (const uint8_t byte : std::initializer_list<uint8_t>{0xC7, 0x00, 1, 2, 3, 4})
    bytes.push_back(byte);
  EXPECT_EQ(outcome_of(CodeMode::k64, bytes), Outcome::kTooLong);
}

TEST(Decoder, RejectsWhatHasNoMeaning) {
  EXPECT_EQ(outcome_of(CodeMode::k64, {0x06}), Outcome::kInvalid) << "push es";
  EXPECT_EQ(outcome_of(CodeMode::k64, {0x0F, 0x04}), Outcome::kInvalid);
  EXPECT_EQ(outcome_of(CodeMode::k64, {0xFE, 0xF8}), Outcome::kInvalid) << "group 4 /7";
  EXPECT_EQ(outcome_of(CodeMode::k64, {0x8D, 0xC0}), Outcome::kInvalid) << "lea of a register";
}

TEST(Decoder, RejectsLockWhereItIsNotAllowed) {
  EXPECT_EQ(outcome_of(CodeMode::k64, {0xF0, 0x01, 0xC8}), Outcome::kInvalid) << "register";
  EXPECT_EQ(outcome_of(CodeMode::k64, {0xF0, 0x8B, 0x00}), Outcome::kInvalid) << "mov";
  EXPECT_TRUE(decoded(CodeMode::k64, {0xF0, 0x01, 0x08}).has(ZYDIS_ATTRIB_HAS_LOCK));
}

TEST(Decoder, ReadsTheSameBytesByTheMode) {
  const std::vector<uint8_t> inc_or_rex = {0x40, 0x90};
  EXPECT_EQ(decoded(CodeMode::k64, inc_or_rex).mnemonic(), ZYDIS_MNEMONIC_NOP);
  EXPECT_EQ(decoded(CodeMode::k32, inc_or_rex).mnemonic(), ZYDIS_MNEMONIC_INC);
  EXPECT_EQ(decoded(CodeMode::k32, inc_or_rex).raw.operand_width, 32);
  EXPECT_EQ(decoded(CodeMode::k16, inc_or_rex).raw.operand_width, 16);
  // ModRM 06H: [rsi], [esi], [disp16].
  const std::vector<uint8_t> load = {0x8B, 0x06, 0x34, 0x12};
  EXPECT_EQ(decoded(CodeMode::k64, load).length(), 2u);
  EXPECT_EQ(decoded(CodeMode::k32, load).length(), 2u);
  EXPECT_EQ(decoded(CodeMode::k16, load).length(), 4u);
}

TEST(Decoder, OperandSizePrefixSwitchesToTheOtherSizeOfTheMode) {
  EXPECT_EQ(decoded(CodeMode::k16, {0x66, 0x40}).raw.operand_width, 32);
  EXPECT_EQ(decoded(CodeMode::k32, {0x66, 0x40}).raw.operand_width, 16);
  EXPECT_EQ(decoded(CodeMode::k64, {0x66, 0x48, 0xFF, 0xC0}).raw.operand_width, 64)
      << "REX.W wins over 66H";
}

TEST(Decoder, TellsVexFromTheOldInstructionOutsideOf64BitMode) {
  const std::vector<uint8_t> bytes = {0xC5, 0xF8, 0x77, 0, 0, 0};
  EXPECT_EQ(decoded(CodeMode::k32, bytes).mnemonic(), ZYDIS_MNEMONIC_VZEROUPPER);
  EXPECT_EQ(decoded(CodeMode::k32, {0xC5, 0x00}).mnemonic(), ZYDIS_MNEMONIC_LDS);
  EXPECT_EQ(decoded(CodeMode::k64, bytes).mnemonic(), ZYDIS_MNEMONIC_VZEROUPPER);
}

TEST(Decoder, ScalesTheDisplacementOfEvex) {
  // vmovups zmm0, [rax + 1 * 64]
  const auto instruction = decoded(CodeMode::k64, {0x62, 0xF1, 0x7C, 0x48, 0x10, 0x40, 0x01});
  // Operand 1 is the opmask.
  EXPECT_EQ(instruction.operands[2].mem.disp.value, 64);
}

TEST(Decoder, GivesAScaledIndexWithoutABaseNoBaseWhateverRexBSays) {
  // mov eax, [eax * 2 + 64B98933H], by 67H and REX.B; and the same with 64-bit addresses.
  for (const std::vector<uint8_t>& bytes :
       {std::vector<uint8_t>{0x67, 0x41, 0x8B, 0x04, 0x45, 0x33, 0x89, 0xB9, 0x64},
        std::vector<uint8_t>{0x41, 0x8B, 0x04, 0x45, 0x33, 0x89, 0xB9, 0x64}}) {
    const auto instruction = decoded(CodeMode::k64, bytes);
    EXPECT_EQ(instruction.length(), bytes.size());
    EXPECT_EQ(instruction.operands[1].mem.base, ZYDIS_REGISTER_NONE);
    EXPECT_EQ(instruction.operands[1].mem.disp.value, 0x64B98933);
  }
  const auto based = decoded(CodeMode::k64, {0x67, 0x41, 0x8B, 0x44, 0x45, 0x10});
  EXPECT_EQ(based.operands[1].mem.base, ZYDIS_REGISTER_R13D);
}

TEST(Decoder, NamesTheLastOfSeveralSegmentOverrides) {
  const auto instruction = decoded(CodeMode::k64, {0x64, 0x65, 0x8B, 0x00});
  EXPECT_EQ(instruction.operands[1].mem.segment, ZYDIS_REGISTER_GS);
}

}  // namespace
}  // namespace limen::soft::decode
