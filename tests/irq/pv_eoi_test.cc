#include "irq/pv_eoi.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>

#include "irq/local_apic.h"
#include "irq/pic_8259.h"
#include "x86/kvm_paravirtual.h"

namespace limen::irq {
namespace {

using x86::kvm::msr::kPvEoi;
constexpr uint64_t kFlag = 0x5004;
constexpr uint64_t kRamSize = 0x10000;
constexpr uint32_t kApicBase = 0x1B;
// x2APIC registers.
constexpr uint32_t kEoi = 0x80B, kPpr = 0x80A, kIsr3 = 0x812, kSvr = 0x80F;

class PvEoiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(apic_.write_msr(kApicBase, ApicBus::kDefaultBase | 0xD00));
    ASSERT_TRUE(apic_.write_msr(kSvr, 0x1FF));
    ASSERT_TRUE(apic_.write_msr(kPvEoi, kFlag | 1));
  }
  static std::unique_ptr<memory::GuestMemory> make_ram() {
    const std::array layout = {memory::GuestMemory::Layout{{0}, kRamSize}};
    return std::move(memory::GuestMemory::create(layout).value());
  }

  uint32_t& flag() { return *reinterpret_cast<uint32_t*>(ram_->span({kFlag}, 4).data()); }
  /// As a guest ends an interrupt: true if it need not write the register.
  bool guest_ends() {
    const bool offered = (flag() & 1) != 0;
    flag() &= ~1u;
    if (offered) return true;
    EXPECT_TRUE(apic_.write_msr(kEoi, 0));
    return false;
  }
  void fixed(uint8_t vector, bool level = false) {
    apic_.accept({.mode = DeliveryMode::kFixed, .vector = vector, .level_triggered = level});
  }
  uint64_t msr(uint32_t index) {
    uint64_t value = 0;
    EXPECT_TRUE(apic_.read_msr(index, value)) << std::hex << index;
    return value;
  }
  uint64_t in_service() {  // vectors 64 to 95
    return msr(kIsr3);
  }

  std::unique_ptr<memory::GuestMemory> ram_ = make_ram();
  memory::IoSpace mmio_{"mmio"};
  ApicBus bus_{mmio_};
  int notified_ = 0;
  LocalApic apic_{bus_, {.bootstrap_processor = true, .ram = ram_.get()}, [this] { ++notified_; }};
};

TEST_F(PvEoiTest, OffersTheOnlyInterruptAndTakesItsEndFromMemory) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_EQ(flag(), 1u);
  EXPECT_TRUE(guest_ends());
  EXPECT_EQ(in_service(), 0u);
  EXPECT_EQ(msr(kPpr), 0u);
}

TEST_F(PvEoiTest, NextInterruptOfTheSameClassIsDeliveredOnceTheFirstIsEndedInMemory) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_TRUE(guest_ends());
  notified_ = 0;
  fixed(0x41);
  EXPECT_EQ(notified_, 1) << "the processor must look";
  EXPECT_TRUE(apic_.has_interrupt());
  EXPECT_EQ(apic_.acknowledge(), 0x41);
  EXPECT_TRUE(guest_ends());
  fixed(0x41);
  EXPECT_EQ(apic_.acknowledge(), 0x41);
}

TEST_F(PvEoiTest, InterruptThatComesDuringServiceWaitsForTheRegister) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  fixed(0x41);
  EXPECT_TRUE(apic_.has_interrupt()) << "it may have been ended by now";
  EXPECT_EQ(apic_.acknowledge(), std::nullopt);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(flag(), 0u) << "the offer is taken back";
  notified_ = 0;
  EXPECT_FALSE(guest_ends());
  EXPECT_EQ(notified_, 1);
  EXPECT_EQ(apic_.acknowledge(), 0x41);
}

TEST_F(PvEoiTest, HigherClassNestsAndBothAreEndedByTheRegister) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  fixed(0x52);
  EXPECT_EQ(apic_.acknowledge(), 0x52);
  EXPECT_EQ(flag(), 0u);
  EXPECT_EQ(in_service(), 1u << 5 | 1u << 18);
  EXPECT_FALSE(guest_ends());
  EXPECT_EQ(in_service(), 1u << 5);
  EXPECT_FALSE(guest_ends());
  EXPECT_EQ(in_service(), 0u);
}

TEST_F(PvEoiTest, IsNotOfferedWhileOthersWaitOrForLevelTriggeredInterrupts) {
  fixed(0x45);
  fixed(0x46);
  EXPECT_EQ(apic_.acknowledge(), 0x46);
  EXPECT_EQ(flag(), 0u);
  EXPECT_FALSE(guest_ends());
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_EQ(flag(), 1u);
  EXPECT_TRUE(guest_ends());
  fixed(0x47, true);
  EXPECT_EQ(apic_.acknowledge(), 0x47);
  EXPECT_EQ(flag(), 0u) << "the I/O APIC must hear of the end";
}

TEST_F(PvEoiTest, SameVectorAgainDuringServiceIsNotLost) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), std::nullopt);
  EXPECT_FALSE(guest_ends());
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_TRUE(guest_ends());
  EXPECT_EQ(apic_.acknowledge(), std::nullopt);
}

TEST_F(PvEoiTest, RegisterWriteDespiteTheOfferEndsTheInterrupt) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_TRUE(apic_.write_msr(kEoi, 0));
  EXPECT_EQ(flag(), 0u);
  EXPECT_EQ(in_service(), 0u);
}

TEST_F(PvEoiTest, TaskPriorityHoldsBackAsBefore) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_TRUE(guest_ends());
  apic_.set_task_priority(4);
  fixed(0x46);
  EXPECT_FALSE(apic_.has_interrupt());
  apic_.set_task_priority(0);
  EXPECT_EQ(apic_.acknowledge(), 0x46);
}

TEST_F(PvEoiTest, ReadingARegisterTakesTheOfferBack) {
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_EQ(in_service(), 1u << 5);
  EXPECT_FALSE(guest_ends());
  EXPECT_EQ(in_service(), 0u);
}

TEST_F(PvEoiTest, InitAndResetForgetTheAddress) {
  for (const bool init : {true, false}) {
    SetUp();
    fixed(0x45);
    EXPECT_EQ(apic_.acknowledge(), 0x45);
    if (init) {
      apic_.accept({.mode = DeliveryMode::kInit});
      EXPECT_EQ(apic_.take_event().event, vcpu::LocalInterruptController::Event::kInit);
    } else {
      apic_.reset();
      ASSERT_TRUE(apic_.write_msr(kApicBase, ApicBus::kDefaultBase | 0xD00));
    }
    EXPECT_EQ(msr(kPvEoi), 0u);
    EXPECT_EQ(in_service(), 0u);
    ASSERT_TRUE(apic_.write_msr(kSvr, 0x1FF));
    flag() = 0;
    fixed(0x45);
    EXPECT_EQ(apic_.acknowledge(), 0x45);
    EXPECT_EQ(flag(), 0u);
    EXPECT_TRUE(apic_.write_msr(kEoi, 0));
  }
}

TEST_F(PvEoiTest, AddressMustBeRamAndReservedBitsClear) {
  EXPECT_FALSE(apic_.write_msr(kPvEoi, kRamSize | 1));
  EXPECT_FALSE(apic_.write_msr(kPvEoi, ~uint64_t{0} << 2 | 1));
  EXPECT_FALSE(apic_.write_msr(kPvEoi, kFlag | 3));
  EXPECT_EQ(msr(kPvEoi), kFlag | 1);
  EXPECT_TRUE(apic_.write_msr(kPvEoi, 0));
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_EQ(flag(), 0u);
}

TEST_F(PvEoiTest, WithoutMemoryThereIsNoRegister) {
  LocalApic plain{bus_, {.id = 1, .bootstrap_processor = false}, {}};
  uint64_t value = 0;
  EXPECT_FALSE(plain.read_msr(kPvEoi, value));
  EXPECT_FALSE(plain.write_msr(kPvEoi, 0));
}

TEST_F(PvEoiTest, WritesLookLikeADevicesToTheEngine) {
  ram_->code_page_marks()[kFlag >> 12] = true;
  const uint64_t before = ram_->code_changes();
  fixed(0x45);
  EXPECT_EQ(apic_.acknowledge(), 0x45);
  EXPECT_GT(ram_->code_changes(), before);
}

}  // namespace
}  // namespace limen::irq
