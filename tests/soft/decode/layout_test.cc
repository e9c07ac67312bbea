#include "soft/decode/layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <random>

namespace limen::soft::decode {
namespace {

InstructionBytes with(std::initializer_list<uint8_t> bytes) {
  InstructionBytes filled{};
  std::copy(bytes.begin(), bytes.end(), filled.begin());
  return filled;
}

void expect_layout(std::initializer_list<uint8_t> bytes, unsigned head, unsigned displacement,
                   unsigned immediate) {
  const Layout layout = find_layout(CodeMode::k64, with(bytes));
  EXPECT_EQ(layout.head, head);
  EXPECT_EQ(layout.displacement, displacement);
  EXPECT_EQ(layout.immediate, immediate);
}

TEST(Layout, SeparatesDisplacementAndImmediateFromTheRest) {
  expect_layout({0x90}, 1, 0, 0);
  expect_layout({0x48, 0x8B, 0x44, 0x24, 0x08}, 4, 1, 0);        // mov rax, [rsp + 8]
  expect_layout({0x48, 0x8D, 0x05, 1, 2, 3, 4}, 3, 4, 0);        // lea rax, [rip + ...]
  expect_layout({0x48, 0x8B, 0x04, 0xC5, 1, 2, 3, 4}, 4, 4, 0);  // mov rax, [rax * 8 + ...]
  expect_layout({0x81, 0x7D, 0xFC, 1, 2, 3, 4}, 2, 1, 4);        // cmp dword [rbp - 4], ...
  expect_layout({0x66, 0xC7, 0x00, 1, 2}, 3, 0, 2);              // mov word [rax], ...
  expect_layout({0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8}, 2, 0, 8);  // mov rax, imm64
  expect_layout({0xE8, 1, 2, 3, 4}, 1, 0, 4);                    // call
  expect_layout({0x0F, 0x84, 1, 2, 3, 4}, 2, 0, 4);              // je
  expect_layout({0xC5, 0xF9, 0x70, 0xC1, 0x1B}, 4, 0, 1);        // vpshufd
  expect_layout({0xC4, 0xE2, 0x7D, 0x18, 0x40, 0x10}, 5, 1, 0);  // vbroadcastss
  expect_layout({0x66, 0x0F, 0x3A, 0x0F, 0xC1, 0x08}, 5, 0, 1);  // palignr
}

TEST(Layout, KnowsTheOpcodesOf32BitCode) {
  const auto layout = [](std::initializer_list<uint8_t> bytes) {
    return find_layout(CodeMode::k32, with(bytes));
  };
  EXPECT_EQ(layout({0x40}).length(), 1u) << "inc eax";
  EXPECT_EQ(layout({0xA1, 1, 2, 3, 4}).displacement, 4u) << "mov eax, [...]";
  EXPECT_EQ(layout({0x66, 0xA3, 1, 2, 3, 4}).head, 2u) << "mov [...], ax";
  EXPECT_EQ(layout({0x8B, 0x05, 1, 2, 3, 4}).length(), 6u) << "mov eax, [...]";
  EXPECT_EQ(layout({0xC5, 0xF9, 0x70, 0xC1, 0x1B}).length(), 5u) << "vpshufd";
  EXPECT_FALSE(layout({0xC5, 0x45, 0x08}).known()) << "lds";
  EXPECT_FALSE(layout({0x67, 0x8B, 0x07}).known()) << "mov eax, [bx]";
  EXPECT_FALSE(layout({0x63, 0xC8}).known()) << "arpl";
}

TEST(Layout, GivesTestButNotItsNeighboursAnImmediate) {
  expect_layout({0xF7, 0xC0, 1, 2, 3, 4}, 2, 0, 4);  // test eax, imm
  expect_layout({0xF7, 0xD0}, 2, 0, 0);              // not eax
  expect_layout({0xF6, 0x40, 0x08, 1}, 2, 1, 1);     // test byte [rax + 8], imm
}

TEST(Layout, CountsImmediatesThatDecideAboutFlagsOrRegisters) {
  EXPECT_TRUE(find_layout(CodeMode::k64, with({0xC1, 0xE0, 0x04})).immediate_counts)
      << "shl eax, 4";
  EXPECT_TRUE(find_layout(CodeMode::k64, with({0x0F, 0xA4, 0xD0, 0x04})).immediate_counts)
      << "shld";
  EXPECT_TRUE(
      find_layout(CodeMode::k64, with({0xC4, 0xE3, 0x69, 0x4A, 0xC1, 0x40})).immediate_counts)
      << "vblendvps";
  EXPECT_FALSE(find_layout(CodeMode::k64, with({0x83, 0xC0, 0x04})).immediate_counts)
      << "add eax, 4";
}

TEST(Layout, LeavesToTheDecoderWhatIsOdd) {
  EXPECT_FALSE(find_layout(CodeMode::k64, with({0x62, 0xF1, 0x7C, 0x48, 0x10, 0x00})).known())
      << "EVEX";
  EXPECT_FALSE(find_layout(CodeMode::k64, with({0x0F, 0x0F, 0xC1, 0x9E})).known()) << "3DNow!";
  EXPECT_FALSE(find_layout(CodeMode::k64, with({0x8F, 0xE9, 0x78, 0x81, 0xC1})).known()) << "XOP";
  EXPECT_FALSE(find_layout(CodeMode::k64, with({0x48, 0x66, 0x90})).known())
      << "REX before another prefix";
  EXPECT_FALSE(find_layout(CodeMode::k64, with({0x66, 0xE8, 0, 0, 0, 0})).known())
      << "call with 66";
  EXPECT_FALSE(find_layout(CodeMode::k64, with({0x66, 0xC5, 0xF9, 0x70, 0xC1, 0x1B})).known())
      << "66 VEX";
}

/// Any bytes; often such that more than the one-byte opcodes are met.
InstructionBytes random_bytes(std::mt19937& random) {
  constexpr std::array<uint8_t, 16> kUsual = {0x66, 0x67, 0xF2, 0xF3, 0x48, 0x41, 0x4C, 0x0F,
                                              0x38, 0x3A, 0xC4, 0xC5, 0xE1, 0xE2, 0xE3, 0x7D};
  InstructionBytes bytes;
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const unsigned usual = random() % 4;
  for (unsigned i = 0; i < usual; ++i) bytes[i] = kUsual[random() % kUsual.size()];
  return bytes;
}

TEST(Layout, AgreesWithTheDecoderAboutEveryInstructionThatItKnows) {
  std::mt19937 random(1);
  unsigned known = 0, decoded = 0;
  for (unsigned i = 0; i < 1'000'000; ++i) {
    const InstructionBytes bytes = random_bytes(random);
    Instruction instruction;
    if (decode(CodeMode::k64, std::span(bytes).first(kMaxInstructionLength), instruction) !=
        Outcome::kOk)
      continue;
    ++decoded;
    const Layout layout = find_layout(CodeMode::k64, bytes);
    if (!layout.known()) continue;
    ++known;
    const auto& raw = instruction.raw.raw;
    const bool agrees =
        layout.length() == instruction.length() && 8u * layout.displacement == raw.disp.size &&
        8u * layout.immediate == raw.imm[0].size && raw.imm[1].size == 0 &&
        (layout.displacement == 0 || raw.disp.offset == layout.head) &&
        (layout.immediate == 0 || raw.imm[0].offset == layout.head + layout.displacement);
    ASSERT_TRUE(agrees) << ::testing::PrintToString(bytes) << " "
                        << ZydisMnemonicGetString(instruction.mnemonic());
  }
  EXPECT_GT(known, decoded * 9 / 10) << "hardly anything is odd";
}

}  // namespace
}  // namespace limen::soft::decode
