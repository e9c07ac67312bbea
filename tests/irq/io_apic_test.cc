#include "irq/io_apic.h"

#include <gtest/gtest.h>

#include "irq/interrupt_router.h"
#include "irq/local_apic.h"
#include "irq/recording_sink.h"

namespace limen::irq {
namespace {

constexpr uint64_t kBase = IoApic::kDefaultBase;
constexpr uint64_t kApic = ApicBus::kDefaultBase;

class IoApicTest : public ::testing::Test {
 protected:
  void SetUp() override { apic_write(0xF0, 0x1FF); }

  uint32_t read(uint8_t index) {
    mmio_.write(kBase, 4, index);
    return static_cast<uint32_t>(mmio_.read(kBase + 0x10, 4));
  }
  void write(uint8_t index, uint32_t value) {
    mmio_.write(kBase, 4, index);
    mmio_.write(kBase + 0x10, 4, value);
  }
  void route(unsigned line, uint32_t low, uint8_t destination = 0) {
    write(static_cast<uint8_t>(0x11 + 2 * line), uint32_t{destination} << 24);
    write(static_cast<uint8_t>(0x10 + 2 * line), low);
  }
  void apic_write(uint64_t offset, uint32_t value) { mmio_.write(kApic + offset, 4, value); }

  memory::IoSpace mmio_{"mmio"};
  ApicBus bus_{mmio_};
  int notified_ = 0;
  LocalApic apic_{bus_, {}, [this] { ++notified_; }};
  IoApic io_apic_{mmio_, bus_};
};

TEST_F(IoApicTest, ReportsVersion20And24Entries) {
  EXPECT_EQ(read(1), 0x00170020u);
  for (uint8_t line = 0; line < 24; ++line)
    EXPECT_EQ(read(static_cast<uint8_t>(0x10 + 2 * line)), 0x10000u);
  EXPECT_EQ(read(0x40), 0u);
}

TEST_F(IoApicTest, KeepsTheIdAndIgnoresReadOnlyBits) {
  write(0, 0xFFFFFFFF);
  EXPECT_EQ(read(0), 0x0F000000u);
  write(0x10, 0xFFFFFFFF);
  EXPECT_EQ(read(0x10), 0x1AFFFu);
  write(0x11, 0xFFFFFFFF);
  EXPECT_EQ(read(0x11), 0xFF000000u);
}

TEST_F(IoApicTest, EdgeDeliversOncePerRise) {
  route(4, 0x34);
  io_apic_.set_line(4, true);
  EXPECT_EQ(apic_.acknowledge(), 0x34);
  io_apic_.set_line(4, true);
  EXPECT_FALSE(apic_.has_interrupt());
  apic_write(0xB0, 0);
  io_apic_.set_line(4, false);
  io_apic_.set_line(4, true);
  EXPECT_EQ(apic_.acknowledge(), 0x34);
}

TEST_F(IoApicTest, MaskedEdgeIsLostAndMaskedLevelIsNot) {
  route(4, 0x10034);
  io_apic_.set_line(4, true);
  route(4, 0x34);
  EXPECT_FALSE(apic_.has_interrupt());
  route(5, 0x18035);
  io_apic_.set_line(5, true);
  EXPECT_FALSE(apic_.has_interrupt());
  route(5, 0x8035);
  EXPECT_TRUE(apic_.has_interrupt());
}

TEST_F(IoApicTest, TellsWhenAProcessorTakesAnEdge) {
  int taken = 0;
  io_apic_.on_acknowledge(2, [&] {
    // As a timer does that has fallen behind: the next edge does not merge with this one.
    if (++taken > 2) return;
    io_apic_.set_line(2, false);
    io_apic_.set_line(2, true);
  });
  EXPECT_FALSE(io_apic_.passes(2));
  route(2, 0x34);
  route(4, 0x35);
  EXPECT_TRUE(io_apic_.passes(2));
  io_apic_.set_line(4, true);
  EXPECT_EQ(apic_.acknowledge(), 0x35);
  EXPECT_EQ(taken, 0);
  apic_write(0xB0, 0);
  io_apic_.set_line(2, true);
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(apic_.acknowledge(), 0x34);
    EXPECT_EQ(taken, i);
    EXPECT_FALSE(apic_.has_interrupt());  // it waits for the end of the one before
    apic_write(0xB0, 0);
  }
  EXPECT_FALSE(apic_.has_interrupt());
}

TEST_F(IoApicTest, LevelWaitsForTheEndOfInterruptAndComesBackWhileAsserted) {
  route(16, 0x8050);
  io_apic_.set_line(16, true);
  EXPECT_EQ(read(0x10 + 32), 0xC050u);  // remote IRR
  EXPECT_EQ(apic_.acknowledge(), 0x50);
  io_apic_.set_line(16, false);
  io_apic_.set_line(16, true);
  EXPECT_FALSE(apic_.has_interrupt());
  apic_write(0xB0, 0);
  EXPECT_EQ(apic_.acknowledge(), 0x50);
  io_apic_.set_line(16, false);
  apic_write(0xB0, 0);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(read(0x10 + 32), 0x8050u);
}

TEST_F(IoApicTest, EoiRegisterEndsALevelInterrupt) {
  route(16, 0x8050);
  io_apic_.set_line(16, true);
  io_apic_.set_line(16, false);
  mmio_.write(kBase + 0x40, 4, 0x50);
  EXPECT_EQ(read(0x10 + 32), 0x8050u);
}

TEST_F(IoApicTest, SwitchingToEdgeAndBackClearsAStuckRemoteIrr) {
  route(16, 0x8050);
  io_apic_.set_line(16, true);
  io_apic_.set_line(16, false);
  write(0x10 + 32, 0x10050);
  write(0x10 + 32, 0x18050);
  EXPECT_EQ(read(0x10 + 32), 0x18050u);
}

TEST_F(IoApicTest, LevelThatNobodyTakesIsSentOnceSomebodyIsNamed) {
  route(16, 0x8050, 9);
  io_apic_.set_line(16, true);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(read(0x10 + 32), 0x8050u);
  route(16, 0x8050, 0);
  EXPECT_EQ(apic_.acknowledge(), 0x50);
}

TEST_F(IoApicTest, NmiModeReachesTheProcessorAsAnEvent) {
  route(3, 0x400);
  io_apic_.set_line(3, true);
  EXPECT_FALSE(apic_.has_interrupt());
  EXPECT_EQ(apic_.take_event().event, vcpu::LocalInterruptController::Event::kNmi);
}

TEST_F(IoApicTest, LogicalDestinationMatchesTheLogicalId) {
  apic_write(0xD0, 0x02000000);
  route(4, 0x834, 0x01);
  io_apic_.set_line(4, true);
  EXPECT_FALSE(apic_.has_interrupt());
  io_apic_.set_line(4, false);
  route(4, 0x834, 0x03);
  io_apic_.set_line(4, true);
  EXPECT_TRUE(apic_.has_interrupt());
}

TEST(InterruptRouter, FeedsBothControllersAndMovesTheTimerToInput2) {
  RecordingSink pic;
  RecordingSink io_apic;
  InterruptRouter router(&pic, &io_apic);
  router.set_line(0, true);
  EXPECT_TRUE(pic.level(0));
  EXPECT_TRUE(io_apic.level(2));
  EXPECT_FALSE(io_apic.level(0));
  router.set_line(9, true);
  EXPECT_TRUE(pic.level(9));
  EXPECT_TRUE(io_apic.level(9));
  router.set_line(20, true);
  EXPECT_TRUE(io_apic.level(20));
  EXPECT_EQ(pic.log().size(), 2u);
}

TEST(InterruptRouter, AsksAndHearsBothControllers) {
  RecordingSink pic, io_apic;
  InterruptRouter router(&pic, &io_apic);
  int taken = 0;
  const InterruptLine timer = router.connect(0);
  timer.on_acknowledge([&] { ++taken; });
  pic.acknowledge(0);
  io_apic.acknowledge(2);
  EXPECT_EQ(taken, 2);
  io_apic.acknowledge(0);
  EXPECT_EQ(taken, 2);
  pic.open = false;
  EXPECT_TRUE(timer.passes());
  io_apic.open = false;
  EXPECT_FALSE(timer.passes());
}

TEST(InterruptRouter, SharedLineFallsWhenTheLastDeviceReleasesIt) {
  RecordingSink io_apic;
  InterruptRouter router(nullptr, &io_apic);
  const auto first = router.connect(17);
  const auto second = router.connect(17);
  first.set(true);
  second.set(true);
  first.set(false);
  EXPECT_TRUE(io_apic.level(17));
  second.set(false);
  EXPECT_FALSE(io_apic.level(17));
  EXPECT_EQ(io_apic.rises(17), 1);
}

TEST(InterruptRouter, ResetReleasesEveryLine) {
  RecordingSink pic;
  InterruptRouter router(&pic, nullptr);
  router.connect(5).set(true);
  router.reset();
  EXPECT_FALSE(pic.level(5));
}

TEST(InterruptRouter, LineThatDoesNotExistIsIgnored) {
  RecordingSink io_apic;
  InterruptRouter router(nullptr, &io_apic);
  router.set_line(4000, true);
  EXPECT_TRUE(io_apic.log().empty());
}

}  // namespace
}  // namespace limen::irq
