// Loads of segment registers: checks, error codes and what stays in the hidden part.
#include <gtest/gtest.h>

#include "soft/system/guest.h"
#include "x86/registers.h"

namespace limen::soft::testing {
namespace {

using x86::Segment;
using x86::Vector;

constexpr uint16_t kPresent = 0x80;
constexpr uint16_t kUserSegment = 0x10;

/// The exception of MOV <segment>, AX, as text; "none" if there was none.
std::string load(Guest& guest, uint8_t segment, uint16_t selector) {
  guest.cpu->rip = Guest::kEntry;
  guest.cpu->gpr[x86::kRax] = selector;
  const auto modrm = static_cast<uint8_t>(0xC0 | (segment << 3));
  const auto exception = guest.execute({0x8E, modrm});
  if (!exception) return "none";
  return fmt::format("{}({:#x})", static_cast<unsigned>(exception->vector),
                     exception->has_error_code ? exception->error_code : 0xFFFF);
}

class SegmentLoad : public ::testing::Test {
 protected:
  SegmentLoad() {
    guest.enter_protected_mode();
    describe(0x20, kPresent | kUserSegment | 0x2);             // data, writable, DPL 0
    describe(0x28, kPresent | kUserSegment | 0x0);             // data, read-only
    describe(0x30, kPresent | kUserSegment | 0xA);             // code, readable
    describe(0x38, kPresent | kUserSegment | 0x8);             // code, execute-only
    describe(0x40, kPresent | kUserSegment | 0x2 | (3 << 5));  // data, DPL 3
    describe(0x48, kUserSegment | 0x2);                        // data, not present
    describe(0x50, kPresent | 0x2);                            // LDT
    describe(0x58, kPresent | kUserSegment | 0xE);             // conforming, readable, DPL 0
    guest.cpu->system.gdtr.limit = 0x5F;
  }
  void describe(uint16_t selector, uint16_t attributes) {
    guest.set_descriptor(selector, make_descriptor(attributes, 0x12345678, 0x0FFF));
  }
  Guest guest;
};

TEST_F(SegmentLoad, FillsTheHiddenPartAndMarksTheDescriptorAccessed) {
  EXPECT_EQ(load(guest, x86::kDs, 0x20), "none");
  const Segment& ds = guest.cpu->system.segments[x86::kDs];
  EXPECT_EQ(ds.selector, 0x20);
  EXPECT_EQ(ds.base, 0x12345678u);
  EXPECT_EQ(ds.limit, 0xFFFu);
  EXPECT_EQ(guest.descriptor(0x20) >> 40 & 0xFF, 0x93u);
}

TEST_F(SegmentLoad, DataSegmentsAcceptReadableSegments) {
  EXPECT_EQ(load(guest, x86::kEs, 0x28), "none");
  EXPECT_EQ(load(guest, x86::kEs, 0x30), "none");
  EXPECT_EQ(load(guest, x86::kEs, 0x38), "13(0x38)");
  EXPECT_EQ(load(guest, x86::kEs, 0x50), "13(0x50)");
  EXPECT_EQ(load(guest, x86::kEs, 0x48), "11(0x48)");
  EXPECT_EQ(load(guest, x86::kEs, 0x60), "13(0x60)") << "beyond the table";
  EXPECT_EQ(load(guest, x86::kEs, 0x64), "13(0x64)") << "no LDT";
  EXPECT_EQ(load(guest, x86::kEs, 0x23), "13(0x20)") << "RPL above DPL";
}

TEST_F(SegmentLoad, StackSegmentMustBeWritableAndOfThisRing) {
  EXPECT_EQ(load(guest, x86::kSs, 0x20), "none");
  EXPECT_EQ(load(guest, x86::kSs, 0x28), "13(0x28)");
  EXPECT_EQ(load(guest, x86::kSs, 0x40), "13(0x40)");
  EXPECT_EQ(load(guest, x86::kSs, 0x23), "13(0x20)");
  EXPECT_EQ(load(guest, x86::kSs, 0x48), "12(0x48)");
  EXPECT_EQ(load(guest, x86::kSs, 0), "13(0x0)");
}

TEST_F(SegmentLoad, StackSegmentLoadHoldsInterruptsBack) {
  EXPECT_EQ(load(guest, x86::kDs, 0x20), "none");
  EXPECT_FALSE(guest.cpu->activity.mov_ss_shadow);
  EXPECT_EQ(load(guest, x86::kSs, 0x20), "none");
  EXPECT_TRUE(guest.cpu->activity.mov_ss_shadow);
}

TEST_F(SegmentLoad, RingThreeReachesItsOwnAndConformingSegments) {
  guest.set_cpl(3);
  EXPECT_EQ(load(guest, x86::kDs, 0x43), "none");
  EXPECT_EQ(load(guest, x86::kDs, 0x5B), "none");
  EXPECT_EQ(load(guest, x86::kDs, 0x20), "13(0x20)");
}

TEST_F(SegmentLoad, CodeSegmentCannotBeMoved) {
  EXPECT_EQ(load(guest, x86::kCs, 0x30), "6(0xffff)");
}

TEST_F(SegmentLoad, NullDataSegmentFaultsWhenUsed) {
  EXPECT_EQ(load(guest, x86::kDs, 0x3), "none");
  guest.cpu->gpr[x86::kRbx] = 0x100;
  const auto exception = guest.execute({0x8A, 0x03});  // MOV AL, [EBX]
  ASSERT_TRUE(exception);
  EXPECT_EQ(exception->vector, Vector::kGeneralProtection);
  EXPECT_EQ(exception->error_code, 0u);
}

TEST_F(SegmentLoad, LimitAndRightsAreCheckedOnUse) {
  describe(0x20, kPresent | kUserSegment | 0x2);
  guest.set_descriptor(0x20, make_descriptor(kPresent | kUserSegment | 0x2, 0x2000, 0xFFF));
  ASSERT_EQ(load(guest, x86::kDs, 0x20), "none");
  guest.cpu->gpr[x86::kRbx] = 0xFFC;
  EXPECT_FALSE(guest.execute({0x8B, 0x03})) << "the last doubleword";
  guest.cpu->gpr[x86::kRbx] = 0xFFD;
  EXPECT_TRUE(guest.execute({0x8B, 0x03}));
  guest.set_descriptor(0x28, make_descriptor(kPresent | kUserSegment, 0x2000, 0xFFF));
  ASSERT_EQ(load(guest, x86::kDs, 0x28), "none");
  guest.cpu->gpr[x86::kRbx] = 0;
  EXPECT_FALSE(guest.execute({0x8B, 0x03}));
  EXPECT_TRUE(guest.execute({0x89, 0x03})) << "read-only";
}

TEST_F(SegmentLoad, ExpandDownSegmentIsValidAboveItsLimit) {
  guest.set_descriptor(0x20, make_descriptor(kPresent | kUserSegment | 0x6, 0, 0x0FFF));
  ASSERT_EQ(load(guest, x86::kDs, 0x20), "none");
  guest.cpu->gpr[x86::kRbx] = 0x1000;
  EXPECT_FALSE(guest.execute({0x8A, 0x03}));
  guest.cpu->gpr[x86::kRbx] = 0x0FFF;
  EXPECT_TRUE(guest.execute({0x8A, 0x03}));
  guest.cpu->gpr[x86::kRbx] = 0x10000;
  EXPECT_TRUE(guest.execute({0x8A, 0x03})) << "B clear: nothing above 64 KiB";
}

TEST_F(SegmentLoad, LocalTableIsUsedForSelectorsWithItsBit) {
  guest.cpu->system.ldtr = {.selector = 0x50, .attributes = 0x82, .limit = 0x17, .base = 0x4000};
  guest.store(0x4008, make_descriptor(kPresent | kUserSegment | 0x2, 0xABC, 0xFF));
  EXPECT_EQ(load(guest, x86::kFs, 0x0C), "none");
  EXPECT_EQ(guest.cpu->system.segments[x86::kFs].base, 0xABCu);
  EXPECT_EQ(load(guest, x86::kFs, 0x1C), "13(0x1c)");
}

TEST(SegmentLoadLongMode, NullStackSegmentIsForInnerRings) {
  Guest guest;
  guest.enter_long_mode();
  EXPECT_EQ(load(guest, x86::kSs, 0), "none");
  EXPECT_EQ(guest.cpu->cpl, 0);
  EXPECT_EQ(load(guest, x86::kSs, 1), "13(0x0)");
  guest.set_cpl(3);
  EXPECT_EQ(load(guest, x86::kSs, 3), "13(0x0)");
}

TEST(SegmentLoadRealMode, LoadsTheBaseAndKeepsTheLimit) {
  Guest guest;
  guest.cpu->system.segments[x86::kEs].limit = 0xFFFFFFFF;
  EXPECT_EQ(load(guest, x86::kEs, 0x1234), "none");
  EXPECT_EQ(guest.cpu->system.segments[x86::kEs].base, 0x12340u);
  EXPECT_EQ(guest.cpu->system.segments[x86::kEs].limit, 0xFFFFFFFFu);
}

TEST(SegmentStack, PushAndPopUseTheOperandSize) {
  Guest guest;
  guest.enter_protected_mode();
  guest.set_descriptor(0x20, make_descriptor(0x92, 0, 0xFFFF));
  guest.cpu->gpr[x86::kRsp] = 0x5000;
  guest.cpu->system.segments[x86::kEs].selector = 0x20;
  ASSERT_FALSE(guest.execute({0x06}));  // PUSH ES
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x4FFCu);
  ASSERT_FALSE(guest.execute({0x66, 0x07}));  // POP ES, 16 bits
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x4FFEu);
  EXPECT_EQ(guest.cpu->system.segments[x86::kEs].selector, 0x20);
}

TEST(SegmentStack, LssLoadsSegmentAndPointerTogether) {
  Guest guest;
  guest.enter_protected_mode();
  guest.set_descriptor(0x20, make_descriptor(0xC092, 0, 0xFFFFF));
  guest.store(0x5000, 0x20'00004321);
  guest.cpu->gpr[x86::kRbx] = 0x5000;
  ASSERT_FALSE(guest.execute({0x0F, 0xB2, 0x23}));  // LSS ESP, [EBX]
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x4321u);
  EXPECT_EQ(guest.cpu->system.segments[x86::kSs].selector, 0x20);
  // A fault leaves both alone.
  guest.store(0x5000, 0x3'00001111);
  ASSERT_TRUE(guest.execute({0x0F, 0xB2, 0x23}));
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x4321u);
}

}  // namespace
}  // namespace limen::soft::testing
