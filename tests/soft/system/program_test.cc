// Small guests that walk through modes, rings and tasks; each stores what it saw.
#include <gtest/gtest.h>

#include "soft/system/guest.h"

namespace limen::soft::testing {
namespace {

class Modes : public OnEachTier {};
class Rings : public OnEachTier {};
class Tasks : public OnEachTier {};
class Virtual8086 : public OnEachTier {};
class LongMode : public OnEachTier {};
class FastSystemCalls : public OnEachTier {};
class Interrupts : public OnEachTier {};
class InterruptShadow : public OnEachTier {};
class SingleStep : public OnEachTier {};

TEST_P(Modes, GuestPassesThroughEveryModeAndBack) {
  Guest guest(GetParam());
  guest.load_program("modes");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 0x08u);
  EXPECT_EQ(guest.result(1), 0x00CF9B00u) << "accessed bit of the code segment";
  EXPECT_EQ(guest.result(2), 0x10u);
  EXPECT_EQ(guest.result(3), 0x123456789ABCDEF0u);
  EXPECT_EQ(guest.result(4), 0xD01u) << "SCE, LME, LMA, NXE";
  EXPECT_EQ(guest.result(5), 0u) << "40H was INC EAX";
  EXPECT_EQ(guest.result(6), 0x08u);
  EXPECT_EQ(guest.result(7), 0x901u) << "LMA went with paging";
}

TEST_P(Modes, UnrealModeKeepsLimitsUntilTheyAreReplaced) {
  Guest guest(GetParam());
  guest.load_program("modes");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(8), 0xCAFEu);
  EXPECT_EQ(guest.load(0x200000) & 0xFFFFFFFF, 0xCAFEu);
  EXPECT_EQ(guest.result(9), 0x600D0000u) << "#GP at the faulting instruction, no error code";
}

TEST_P(Rings, InterruptGatesCallGatesAndReturnsSwitchStacks) {
  Guest guest(GetParam());
  guest.load_program("rings");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 0x00008B00u) << "LTR sets the busy bit";
  EXPECT_EQ(guest.result(1), 0x23u);
  EXPECT_EQ(guest.result(2), 0u) << "DS of ring 0 is dropped on the way out";
  EXPECT_EQ(guest.result(3), 0x6000u);
  EXPECT_EQ(guest.result(4), 0x6000u) << "RETF 8 released the parameters";
  EXPECT_EQ(guest.result(9), 0x23u);
  EXPECT_EQ(guest.result(10), 0x6000u);
  EXPECT_EQ(guest.result(11), 0x18u);
  EXPECT_EQ(guest.result(12), 0x1111u);
  EXPECT_EQ(guest.result(13), 0x2222u);
  EXPECT_EQ(guest.result(14), 0x6000u - 8);
  EXPECT_EQ(guest.result(15), 0x08u);
}

TEST_P(Rings, RingThreeIsRefusedGatesPortsAndInterruptFlag) {
  Guest guest(GetParam());
  guest.load_program("rings");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(16), 0x81u * 8 + 2) << "INT to a gate of DPL 0";
  EXPECT_EQ(guest.result(17), 0u) << "IN beyond the permission map";
  EXPECT_EQ(guest.result(18), 0u) << "CLI";
  EXPECT_EQ(guest.result(19), 0u) << "HLT";
  EXPECT_EQ(guest.port_log.writes.size(), 1u);
}

TEST_P(Tasks, CallNestsAndIretReturns) {
  Guest guest(GetParam());
  guest.load_program("tasks");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 0xA0A0u);
  EXPECT_EQ(guest.result(1) & 0x4000, 0x4000u) << "NT";
  EXPECT_EQ(guest.result(2), 0x48u) << "back link";
  EXPECT_EQ(guest.result(3), 0xBEEFu);
  EXPECT_EQ(guest.result(4) & 8, 8u) << "CR0.TS";
  EXPECT_EQ(guest.result(5), 0x48u);
  EXPECT_EQ(guest.result(6), 0x00008900u);
}

TEST_P(Tasks, JumpMovesTheBusyBit) {
  Guest guest(GetParam());
  guest.load_program("tasks");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(7), 0x00008900u);
  EXPECT_EQ(guest.result(8), 0u) << "saved EIP";
  EXPECT_EQ(guest.result(9), 0xBEEFu);
}

TEST_P(Tasks, DoubleFaultGoesThroughATaskGateWithItsErrorCode) {
  Guest guest(GetParam());
  guest.load_program("tasks");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(10), 0u);
  EXPECT_EQ(guest.result(11), 0u) << "saved EIP";
}

TEST_P(Virtual8086, SegmentsAreParagraphsAndSensitiveInstructionsFault) {
  Guest guest(GetParam());
  guest.load_program("virtual8086");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 0x0010u);
  EXPECT_EQ(guest.result(1), 0x4444u);
  EXPECT_EQ(guest.result(2) & 0x3200, 0x3200u);
  EXPECT_EQ(guest.result(3), 0x77u);
  EXPECT_EQ(guest.result(4), 3u) << "CLI, INT and HLT";
  EXPECT_EQ(guest.result(5), 0u) << "error codes";
  EXPECT_EQ(guest.result(6) & 0x20000, 0x20000u) << "VM in the frame";
  EXPECT_EQ(guest.result(7), 0x100u);
  EXPECT_EQ(guest.result(8), 0xF00u);
  EXPECT_EQ(guest.result(9), 0x4444u);
  EXPECT_EQ(guest.result(10), 0u);
  EXPECT_EQ(guest.result(11), 1u);
  EXPECT_EQ(guest.result(12) & 0x23000, 0x23000u);
}

TEST_P(LongMode, SystemCallAndReturn) {
  Guest guest(GetParam());
  guest.load_program("long");
  (void)guest.run();
  EXPECT_EQ(guest.result(0), 0x33u);
  EXPECT_EQ(guest.result(1), 0x2Bu);
  EXPECT_GT(guest.result(2), 0u);
  EXPECT_EQ(guest.result(3) & 0x202, 0x202u) << "R11";
  EXPECT_EQ(guest.result(4) & 0x200, 0u) << "IA32_FMASK";
  EXPECT_EQ(guest.result(5) & 0x200, 0x200u);
  EXPECT_EQ(guest.result(6), 0x12340000u) << "SWAPGS";
}

TEST_P(LongMode, InterruptFromUserModeHasNullStackSegment) {
  Guest guest(GetParam());
  guest.load_program("long");
  (void)guest.run();
  EXPECT_EQ(guest.result(7), 0u);
  EXPECT_EQ(guest.result(8), 0x7000u - 40);
  EXPECT_EQ(guest.result(9), 0x6000u);
  EXPECT_EQ(guest.result(10), 0x2Bu);
}

TEST_P(LongMode, PageFaultUsesItsInterruptStack) {
  Guest guest(GetParam());
  guest.load_program("long");
  (void)guest.run();
  EXPECT_EQ(guest.result(11), 0xC000u - 48);
  EXPECT_EQ(guest.result(12), 6u) << "user write to a page that is not there";
  EXPECT_EQ(guest.result(13), 0x400010u);
  EXPECT_EQ(guest.result(14), 0u);
  EXPECT_EQ(guest.result(15) & 0x10000, 0x10000u) << "RF";
}

TEST_P(LongMode, DoubleFaultThenTripleFault) {
  Guest guest(GetParam());
  guest.load_program("long");
  EXPECT_FALSE(guest.run());
  EXPECT_TRUE(guest.triple_fault);
  EXPECT_EQ(guest.result(16), 0xCFF0u - 48) << "aligned";
  EXPECT_EQ(guest.result(17), 0u);
  EXPECT_EQ(guest.result(18), 0x4FFFF8u) << "CR2 of the second fault";
  EXPECT_EQ(guest.result(19), 0x10u);
  EXPECT_EQ(guest.result(20), 0x60u) << "IRETQ with a bad SS";
}

TEST_P(FastSystemCalls, SysexitAndSysenterLoadFixedSegments) {
  Guest guest(GetParam());
  guest.load_program("sysenter");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 0x73u);
  EXPECT_EQ(guest.result(1), 0x7Bu);
  EXPECT_EQ(guest.result(2), 0x6000u);
  EXPECT_EQ(guest.result(3), 0x60u);
  EXPECT_EQ(guest.result(4), 0x68u);
  EXPECT_EQ(guest.result(5), 0x7000u);
  EXPECT_EQ(guest.result(6) & 0x200, 0u);
}

TEST_P(InterruptShadow, WaitingInterruptComesInAfterTheShadow) {
  Guest guest(GetParam());
  guest.load_program("shadow");
  guest.interrupts.vectors = {0x40, 0x40, 0x40, 0x40};
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), guest.result(8)) << "one instruction after STI";
  EXPECT_EQ(guest.result(1), guest.result(9)) << "at once after POPF";
  EXPECT_EQ(guest.result(2), guest.result(10)) << "MOV SS in STI's shadow has its own";
  EXPECT_EQ(guest.result(3), guest.result(11)) << "HLT in STI's shadow ends at once";
}

TEST_P(Interrupts, TwoNmisAtOnceAreServedOneAfterTheOther) {
  using Event = vcpu::LocalInterruptController::Event;
  Guest guest(GetParam());
  guest.load_program("nmis");
  guest.store(4 * 2, Guest::kEntry + 4);
  guest.interrupts.events = {{.event = Event::kNmi}, {.event = Event::kNmi}};
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 2u);
}

class DebugProgram : public OnEachTier {
 protected:
  DebugProgram() {
    guest.load_program("debug");
    finished = guest.run();
  }
  /// DR6 and the address pushed by the n-th #DB.
  [[nodiscard]] uint64_t status(unsigned n) const { return guest.result(n) & 0xF00F; }
  [[nodiscard]] uint64_t address(unsigned n) const { return guest.result(n) >> 32; }
  Guest guest{GetParam()};
  bool finished = false;
};

TEST_P(DebugProgram, RegistersHaveFixedBitsAndAliases) {
  ASSERT_TRUE(finished);
  EXPECT_EQ(guest.result(0), 0x12345678u);
  EXPECT_EQ(guest.result(1), 0x400u);
  EXPECT_EQ(guest.result(2), 0x400u) << "DR5";
  EXPECT_EQ(guest.result(3), 1u) << "DR4 with CR4.DE";
}

TEST_P(DebugProgram, EveryCauseIsReportedAtItsPlace) {
  ASSERT_TRUE(finished);
  EXPECT_EQ(status(20), 0x4000u) << "single step";
  EXPECT_EQ(address(20), guest.result(10));
  EXPECT_EQ(status(21), 1u) << "instruction breakpoint: a fault";
  EXPECT_EQ(address(21), guest.result(11));
  EXPECT_EQ(status(22), 2u) << "data breakpoint: a trap";
  EXPECT_EQ(address(22), guest.result(12));
  EXPECT_EQ(status(23), 4u) << "I/O breakpoint";
  EXPECT_EQ(address(23), guest.result(13));
  EXPECT_EQ(status(24), 0x2000u) << "general detect: a fault";
  EXPECT_EQ(address(24), guest.result(14));
}

TEST_P(DebugProgram, MovToStackSegmentHoldsItsTrapBack) {
  ASSERT_TRUE(finished);
  EXPECT_EQ(status(28), 2u);
  EXPECT_EQ(address(28), guest.result(15));
}

TEST_P(DebugProgram, InterruptOneTakesAHeldBackTrapAlong) {
  ASSERT_TRUE(finished);
  EXPECT_EQ(status(29), 2u);
  EXPECT_EQ(address(29), guest.result(16));
}

TEST_P(DebugProgram, MovToStackSegmentHoldsInstructionBreakpointsBackOnIntelOnly) {
  ASSERT_TRUE(finished);
  EXPECT_EQ(guest.result(30), 0u);
  Guest amd("AuthenticAMD");
  amd.load_program("debug");
  ASSERT_TRUE(amd.run());
  EXPECT_EQ(amd.result(30) & 0xF00F, 1u);
  EXPECT_EQ(amd.result(30) >> 32, amd.result(17));
}

TEST_P(SingleStep, StopsWhereTheKernelsEntriesClearTheTrapFlag) {
  Guest guest(GetParam());
  guest.load_program("stepped_syscall");
  ASSERT_TRUE(guest.run());
  EXPECT_EQ(guest.result(0), 0u);
  EXPECT_EQ(guest.result(1) & 0x100, 0u) << "IA32_FMASK";
  EXPECT_EQ(guest.result(2) & 0x100, 0u) << "the gate";
  EXPECT_EQ(guest.result(3), guest.result(8)) << "SYSRET traps when it is done";
  EXPECT_EQ(guest.result(4), guest.result(9)) << "then behind the NOP in ring 3";
  EXPECT_EQ(guest.result(5), 0u);
  EXPECT_EQ(guest.result(6), 0x33u);
}

INSTANTIATE_TEST_SUITE_P(Tiers, Modes, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, Rings, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, Tasks, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, Virtual8086, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, LongMode, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, FastSystemCalls, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, Interrupts, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, InterruptShadow, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, SingleStep, every_tier(), tier_name);
INSTANTIATE_TEST_SUITE_P(Tiers, DebugProgram, every_tier(), tier_name);

}  // namespace
}  // namespace limen::soft::testing
