// Delivery of exceptions and interrupts: error codes of a bad IDT, double faults, real mode, INIT.
#include "soft/interpret/delivery.h"

#include <gtest/gtest.h>

#include "soft/interpret/debug.h"
#include "soft/system/guest.h"

namespace limen::soft::testing {
namespace {

using interpret::deliver_exception;
using interpret::deliver_interrupt;
using x86::Exception;
using x86::Vector;
namespace rflags = x86::rflags;

constexpr uint8_t kInterruptGate = 0x8E;

class Delivery : public ::testing::Test {
 protected:
  Delivery() {
    guest.enter_protected_mode();
    guest.set_descriptor(0x08, make_descriptor(0xC09B, 0, 0xFFFFF));
    guest.set_descriptor(0x18, make_descriptor(0xC093, 0, 0xFFFFF));
    guest.cpu->gpr[x86::kRsp] = 0x7000;
    guest.cpu->rip = 0x4321;
  }
  void gate(unsigned vector, uint32_t offset, uint8_t type = kInterruptGate,
            uint16_t selector = 0x08) {
    guest.store(Guest::kIdt + 8 * vector, make_gate(selector, offset, type));
  }
  uint32_t stack(unsigned index) {
    return static_cast<uint32_t>(guest.load(guest.cpu->gpr[x86::kRsp] + 4 * index));
  }
  Guest guest;
};

TEST_F(Delivery, FaultPushesErrorCodeAndResumeFlag) {
  gate(13, 0x2000);
  guest.cpu->set_rflags(0x202 | rflags::kTrap);
  ASSERT_TRUE(deliver_exception(*guest.cpu, Exception::general_protection(0x1230)));
  EXPECT_EQ(guest.cpu->rip, 0x2000u);
  EXPECT_EQ(stack(0), 0x1230u);
  EXPECT_EQ(stack(1), 0x4321u);
  EXPECT_EQ(stack(2), 0x08u);
  EXPECT_EQ(stack(3), 0x10302u);
  EXPECT_EQ(guest.cpu->rflags(), 2u) << "IF, TF and RF are clear in the handler";
}

TEST_F(Delivery, TrapGateKeepsTheInterruptFlag) {
  gate(0x20, 0x2000, 0x8F);
  guest.cpu->set_rflags(0x202);
  ASSERT_TRUE(deliver_interrupt(*guest.cpu, 0x20));
  EXPECT_EQ(guest.cpu->rflags(), 0x202u);
  EXPECT_EQ(stack(2), 0x202u);
}

TEST_F(Delivery, SixteenBitGatePushesWords) {
  gate(0x20, 0x12342000, 0x86);
  ASSERT_TRUE(deliver_interrupt(*guest.cpu, 0x20));
  EXPECT_EQ(guest.cpu->rip, 0x2000u);
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x7000u - 6);
}

TEST_F(Delivery, BadGateNamesItsVectorAndExternalBit) {
  gate(13, 0x2000);
  gate(11, 0x2100);
  gate(0x20, 0x2200, 0x0E);  // not present
  gate(0x21, 0x2200, 0x82);  // not a gate
  gate(0x22, 0x2200, kInterruptGate, 0);
  gate(0x23, 0x2200, kInterruptGate, 0x18);
  const auto deliver = [&](uint8_t vector) {
    guest.cpu->gpr[x86::kRsp] = 0x7000;
    EXPECT_TRUE(deliver_interrupt(*guest.cpu, vector));
    return std::pair(guest.cpu->rip, stack(0));
  };
  EXPECT_EQ(deliver(0x20), std::pair(uint64_t{0x2100}, 0x20u * 8 + 3));
  EXPECT_EQ(deliver(0x21), std::pair(uint64_t{0x2000}, 0x21u * 8 + 3));
  EXPECT_EQ(deliver(0x22), std::pair(uint64_t{0x2000}, 1u));
  EXPECT_EQ(deliver(0x23), std::pair(uint64_t{0x2000}, 0x19u));
  guest.cpu->system.idtr.limit = 0x20 * 8 - 1;
  EXPECT_EQ(deliver(0x20), std::pair(uint64_t{0x2000}, 0x20u * 8 + 3));
}

TEST_F(Delivery, SoftwareInterruptHasNoExternalBit) {
  gate(0x20, 0x2200, 0x82);
  guest.cpu->rip = Guest::kEntry;
  const auto exception = guest.execute({0xCD, 0x20});
  ASSERT_TRUE(exception);
  EXPECT_EQ(exception->error_code, 0x20u * 8 + 2);
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x7000u);
}

TEST_F(Delivery, ContributoryFaultTwiceIsADoubleFault) {
  gate(8, 0x2000);
  // #GP itself has no gate: its delivery raises #GP.
  ASSERT_TRUE(deliver_exception(*guest.cpu, Exception::general_protection()));
  EXPECT_EQ(guest.cpu->rip, 0x2000u);
  EXPECT_EQ(stack(0), 0u);
  EXPECT_EQ(stack(1), 0x4321u);
}

TEST_F(Delivery, BenignFaultThenContributoryIsDeliveredInTurn) {
  gate(13, 0x2000);
  ASSERT_TRUE(deliver_exception(*guest.cpu, Exception::invalid_opcode()));
  EXPECT_EQ(guest.cpu->rip, 0x2000u);
  EXPECT_EQ(stack(0), 6u * 8 + 3);
}

TEST_F(Delivery, FaultDuringDoubleFaultShutsDown) {
  EXPECT_FALSE(deliver_exception(*guest.cpu, Exception::invalid_opcode()));
}

TEST_F(Delivery, StackLimitFaultLeavesEverythingAsItWas) {
  gate(13, 0x2000);
  gate(12, 0x2100, 0x85, 0x20);  // a task gate to nowhere: #SS becomes #GP, then #DF
  guest.cpu->system.segments[x86::kSs].limit = 0xFFF;
  const uint64_t below = guest.load(0x6FF0);
  EXPECT_FALSE(deliver_exception(*guest.cpu, Exception::general_protection()));
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0x7000u);
  EXPECT_EQ(guest.load(0x6FF0), below);
}

TEST_F(Delivery, PageFaultStoresItsAddress) {
  gate(14, 0x2000);
  ASSERT_TRUE(deliver_exception(*guest.cpu, Exception::page_fault(0xDEAD0000, 2)));
  EXPECT_EQ(guest.cpu->system.cr2, 0xDEAD0000u);
  EXPECT_EQ(stack(0), 2u);
}

TEST_F(Delivery, DebugExceptionRecordsItsCause) {
  gate(1, 0x2000);
  guest.cpu->system.dr[6] = 0xFFFF0FF3;
  guest.cpu->system.dr[7] = 0x2402;
  ASSERT_TRUE(deliver_exception(*guest.cpu, {.vector = Vector::kDebug, .debug_status = 4}));
  EXPECT_EQ(guest.cpu->system.dr[6], 0xFFFF0FF4u);
  EXPECT_EQ(guest.cpu->system.dr[7], 0x402u) << "GD";
  EXPECT_EQ(stack(2) & rflags::kResume, 0u);
}

TEST_F(Delivery, NmiBlocksFurtherNmisUntilIret) {
  gate(2, 0x2000);
  ASSERT_TRUE(deliver_interrupt(*guest.cpu, 2));
  EXPECT_TRUE(guest.cpu->activity.nmi_blocked);
  EXPECT_FALSE(guest.execute({0xCF}));
  EXPECT_FALSE(guest.cpu->activity.nmi_blocked);
  EXPECT_EQ(guest.cpu->rip, 0x4321u);
}

TEST(RealModeDelivery, UsesTheVectorTableAndPushesNoErrorCode) {
  Guest guest;
  guest.cpu->set_rflags(0x202 | rflags::kTrap);
  guest.store(13 * 4, 0x0123'4567);
  guest.cpu->system.idtr = {.base = 0, .limit = 0x3FF};
  ASSERT_TRUE(deliver_exception(*guest.cpu, Exception::general_protection(0x55)));
  EXPECT_EQ(guest.cpu->rip, 0x4567u);
  EXPECT_EQ(guest.cpu->system.segments[x86::kCs].selector, 0x0123);
  EXPECT_EQ(guest.cpu->system.segments[x86::kCs].base, 0x1230u);
  EXPECT_EQ(guest.cpu->gpr[x86::kRsp], 0xF00u - 6);
  EXPECT_EQ(guest.load(0xF00 - 6) & 0xFFFFFFFFFFFF, 0x0302'0000'1000u) << "TF IF, CS, IP";
  EXPECT_EQ(guest.cpu->rflags(), 2u);
}

TEST(RealModeDelivery, ShortVectorTableEndsInShutdown) {
  Guest guest;
  guest.cpu->system.idtr = {.base = 0, .limit = 0};
  EXPECT_FALSE(deliver_exception(*guest.cpu, Exception::invalid_opcode()));
}

TEST(Init, ResetsTheBootstrapProcessorToItsFirstInstruction) {
  Guest guest;
  guest.enter_long_mode();
  guest.cpu->system.lstar = 0x1234;
  interpret::apply_init(*guest.cpu);
  EXPECT_EQ(guest.cpu->rip, 0xFFF0u);
  EXPECT_EQ(guest.cpu->system.segments[x86::kCs].base, 0xFFFF0000u);
  EXPECT_EQ(guest.cpu->gpr[x86::kRdx], 0x000306C3u) << "signature";
  EXPECT_EQ(guest.cpu->mode, decode::CodeMode::k16);
  EXPECT_EQ(guest.cpu->system.lstar, 0x1234u) << "INIT keeps the model-specific registers";
  EXPECT_FALSE(guest.cpu->activity.wait_for_sipi);
}

TEST(Init, LeavesOtherProcessorsWaitingForTheirVector) {
  Guest guest;
  guest.interrupts.apic_base = 0xFEE00800;
  interpret::apply_init(*guest.cpu);
  EXPECT_TRUE(guest.cpu->activity.wait_for_sipi);
  interpret::apply_startup(*guest.cpu, 0x9A);
  EXPECT_FALSE(guest.cpu->activity.wait_for_sipi);
  EXPECT_EQ(guest.cpu->system.segments[x86::kCs].selector, 0x9A00);
  EXPECT_EQ(guest.cpu->system.segments[x86::kCs].base, 0x9A000u);
  EXPECT_EQ(guest.cpu->rip, 0u);
}

}  // namespace
}  // namespace limen::soft::testing
