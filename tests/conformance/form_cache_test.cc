// What the translator knows of an instruction from others of its form is what it would find out by
// decoding it.
#include "soft/translate/form_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "conformance/form.h"
#include "conformance/random.h"
#include "conformance/soft_guest.h"
#include "conformance/vary.h"

namespace limen::conformance {
namespace {

using soft::decode::InstructionBytes;
using soft::decode::kMaxInstructionLength;
using soft::translate::CodeKind;
using soft::translate::FormCache;
using soft::translate::Item;

constexpr CodeKind kUser32{
    .user = true, .sse = true, .avx = true, .tsc = true, .x87 = true, .code32 = true};
constexpr CodeKind kKernel{.sse = true, .avx = true, .avx512 = true, .tsc = true, .base = true};
constexpr CodeKind kUser{
    .user = true, .sse = true, .avx = true, .avx512 = true, .tsc = true, .base = true};

class FormCacheTest : public testing::Test {
 protected:
  FormCacheTest() {
    auto memory = SoftGuest::create_memory();
    EXPECT_TRUE(memory.has_value());
    guest_ = std::make_unique<SoftGuest>(std::move(*memory), 0);
    cache_ = std::make_unique<FormCache>(guest_->cpu);
  }

  static soft::decode::Outcome find(FormCache& cache, CodeKind kind, const InstructionBytes& bytes,
                                    Item& item) {
    item.bytes = bytes;
    return cache.find(kind, kMaxInstructionLength, item);
  }

  void expect_same_as_anew(CodeKind kind, const InstructionBytes& bytes) {
    Item kept, anew;
    const auto outcome = find(*cache_, kind, bytes, kept);
    anew.bytes = bytes;
    ASSERT_EQ(outcome, cache_->decode(kind, kMaxInstructionLength, anew))
        << testing::PrintToString(bytes);
    if (outcome != soft::decode::Outcome::kOk) return;
    ASSERT_TRUE(kept == anew) << testing::PrintToString(bytes);
  }

  /// Other displacements and immediates.
  static InstructionBytes with_other_values(soft::decode::CodeMode mode,
                                            const InstructionBytes& bytes, Random& random) {
    InstructionBytes other = bytes;
    const auto layout = soft::decode::find_layout(mode, bytes);
    for (unsigned i = layout.known() ? layout.head : 1; i < other.size(); ++i)
      other[i] = static_cast<uint8_t>(random.next());
    return other;
  }

  /// And other registers, by ModRM, SIB and the low bits of REX.
  static InstructionBytes with_other_registers(soft::decode::CodeMode mode,
                                               const InstructionBytes& bytes, Random& random) {
    InstructionBytes other = with_other_values(mode, bytes, random);
    const auto layout = soft::decode::find_layout(mode, bytes);
    if (layout.modrm == 0) return other;
    const auto change = [&](unsigned at, unsigned mask) {
      other[at] ^= static_cast<uint8_t>(random.next() & mask);
    };
    change(layout.modrm, layout.sib ? 0x38 : 0x3F);
    if (layout.sib) change(layout.modrm + 1u, 0xFF);
    if (layout.rex != 0) change(layout.rex - 1u, 7);
    return other;
  }

  std::unique_ptr<SoftGuest> guest_;
  std::unique_ptr<FormCache> cache_;
};

TEST_F(FormCacheTest, GivesWhatDecodingGivesForEveryForm) {
  Random random(1);
  for (const Section& section : sections()) {
    const std::vector<CodeKind> kinds = section.mode == soft::decode::CodeMode::k64
                                            ? std::vector{kKernel, kUser, CodeKind{}}
                                            : std::vector{kUser32};
    for (const Form& form : enumerate_forms(section)) {
      Concrete concrete;
      vary(form, random, concrete);
      InstructionBytes bytes{};
      std::copy_n(concrete.bytes.data.begin(), concrete.bytes.size, bytes.begin());
      for (const CodeKind kind : kinds) {
        Item first;
        find(*cache_, kind, bytes, first);
        expect_same_as_anew(kind, bytes);
        expect_same_as_anew(kind, with_other_values(section.mode, bytes, random));
        for (unsigned i = 0; i < 8; ++i)
          expect_same_as_anew(kind, with_other_registers(section.mode, bytes, random));
      }
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(FormCacheTest, KnowsAnInstructionFromAnotherOfItsForm) {
  Item item;
  ASSERT_EQ(find(*cache_, kUser, {0x48, 0x8B, 0x44, 0x24, 0x08}, item),
            soft::decode::Outcome::kOk);  // mov rax, [rsp + 8]
  ASSERT_EQ(find(*cache_, kUser, {0x48, 0x8B, 0x44, 0x24, 0xF0}, item), soft::decode::Outcome::kOk);
  EXPECT_EQ(item.displacement, -16);
  EXPECT_EQ(item.length, 5u);
  EXPECT_EQ(item.address.base, x86::kRsp);
  // mov r9, [r12 + r15 * 8 + 8]
  ASSERT_EQ(find(*cache_, kUser, {0x4F, 0x8B, 0x4C, 0xFC, 0x08}, item), soft::decode::Outcome::kOk);
  EXPECT_EQ(item.registers_written, 1u << 9);
  EXPECT_EQ(item.address.base, 12);
  EXPECT_EQ(item.address.index, 15);
  EXPECT_EQ(item.address.scale, 3);
  // mov rdx, [rcx + rbx + 8]
  ASSERT_EQ(find(*cache_, kUser, {0x48, 0x8B, 0x54, 0x19, 0x08}, item), soft::decode::Outcome::kOk);
  EXPECT_EQ(item.registers_written, 1u << x86::kRdx);
  EXPECT_EQ(cache_->statistics().found, 2u);
  EXPECT_EQ(cache_->statistics().decoded, 2u);
}

}  // namespace
}  // namespace limen::conformance
