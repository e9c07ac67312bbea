#include "device/hpet.h"

#include "device/pc_fixture.h"

namespace limen::device {
namespace {

using namespace std::chrono_literals;

struct FakeMessages final : irq::MsiSink {
  void send_msi(const irq::MsiMessage& message) override { sent.push_back(message); }
  std::vector<irq::MsiMessage> sent;
};

class HpetTest : public DeviceTest {
 protected:
  uint64_t read(uint64_t offset, unsigned size = 8) {
    return mmio_.read(Hpet::kDefaultBase + offset, size);
  }
  void write(uint64_t offset, uint64_t value, unsigned size = 8) {
    mmio_.write(Hpet::kDefaultBase + offset, size, value);
  }
  void enable(bool legacy = false) { write(0x10, legacy ? 3 : 1); }

  FakeMessages messages_;
  std::vector<bool> replaced_;
  Hpet hpet_{mmio_, sink_, &messages_, *loop_, {.legacy_replaced = [this](bool on) {
               replaced_.push_back(on);
             }}};
};

TEST_F(HpetTest, CapabilitiesNameThreeTimersAndTenNanoseconds) {
  EXPECT_EQ(read(0), 10'000'000ull << 32 | 0x8086A201);
  EXPECT_EQ(read(4, 4), 10'000'000u);
  EXPECT_EQ(read(0x100) & 0xFFFFFFFF0000FFFF, 0x00F0000400008030ull);
}

TEST_F(HpetTest, CounterRunsOnlyWhileEnabled) {
  advance(1ms);
  EXPECT_EQ(read(0xF0), 0u);
  enable();
  advance(1ms);
  EXPECT_EQ(read(0xF0), 100'000u);
  EXPECT_EQ(read(0xF4, 4), 0u);
  write(0x10, 0);
  advance(1ms);
  EXPECT_EQ(read(0xF0), 100'000u);
  write(0xF0, 0x1'0000'0000);
  enable();
  advance(10ns);
  EXPECT_EQ(read(0xF0), 0x1'0000'0001u);
}

TEST_F(HpetTest, OneShotEdgeFiresOnce) {
  write(0x100, 1u << 2 | 20u << 9);
  enable();
  write(0x108, 100'000);
  advance(999us);
  EXPECT_EQ(sink_.rises(20), 0);
  advance(2us);
  EXPECT_EQ(sink_.rises(20), 1);
  EXPECT_FALSE(sink_.level(20));
  EXPECT_EQ(read(0x20), 0u);  // edges set no status
  advance(1s);
  EXPECT_EQ(sink_.rises(20), 1);
}

TEST_F(HpetTest, PeriodicAsLinuxProgramsIt) {
  enable();
  write(0x100, 1u << 2 | 1u << 3 | 1u << 6 | 1u << 8 | 20u << 9, 4);
  const uint64_t now = read(0xF0, 4);
  write(0x108, now + 100'000, 4);
  write(0x108, 100'000, 4);
  advance(100ms + 10us);
  EXPECT_EQ(sink_.rises(20), 100);
  EXPECT_EQ(read(0x108), 101u * 100'000u);
}

TEST_F(HpetTest, LevelInterruptHoldsTheLineUntilStatusIsCleared) {
  write(0x120, 1u << 1 | 1u << 2 | 21u << 9);
  enable();
  write(0x128, 1000);
  advance(1ms);
  EXPECT_TRUE(sink_.level(21));
  EXPECT_EQ(read(0x20), 2u);
  write(0x20, 1);
  EXPECT_TRUE(sink_.level(21));
  write(0x20, 2);
  EXPECT_FALSE(sink_.level(21));
}

TEST_F(HpetTest, StatusIsSetWithoutTheInterruptToo) {
  write(0x120, 1u << 1 | 21u << 9);
  enable();
  write(0x128, 1000);
  advance(1ms);
  EXPECT_EQ(read(0x20), 2u);
  EXPECT_EQ(sink_.rises(21), 0);
}

TEST_F(HpetTest, LegacyReplacementTakesInterrupts0And8) {
  write(0x100, 1u << 2);
  write(0x120, 1u << 2);
  enable(true);
  EXPECT_EQ(replaced_, std::vector<bool>({true}));
  write(0x108, 1000);
  write(0x128, 2000);
  advance(1ms);
  EXPECT_EQ(sink_.rises(0), 1);
  EXPECT_EQ(sink_.rises(8), 1);
  hpet_.reset();
  EXPECT_EQ(replaced_, std::vector<bool>({true, false}));
}

TEST_F(HpetTest, RouteThatATimerDoesNotHaveIsNotTaken) {
  write(0x100, 20u << 9);
  write(0x100, 7u << 9);
  EXPECT_EQ(read(0x100) >> 9 & 0x1F, 20u);
}

TEST_F(HpetTest, ThirtyTwoBitTimerMatchesAcrossTheWrap) {
  write(0xF0, 0xFFFFFFFF);
  write(0x100, 1u << 2 | 1u << 8 | 20u << 9);
  write(0x108, 99);
  enable();
  advance(900ns);
  EXPECT_EQ(sink_.rises(20), 0);
  advance(2us);
  EXPECT_EQ(sink_.rises(20), 1);
}

TEST_F(HpetTest, MessageGoesOutInPlaceOfTheLine) {
  write(0x110, 0xFEE01000ull << 32 | 0x4041);
  write(0x100, 1u << 2 | 1u << 14 | 20u << 9);
  enable();
  write(0x108, 1000);
  advance(1ms);
  ASSERT_EQ(messages_.sent.size(), 1u);
  EXPECT_EQ(messages_.sent[0].address, 0xFEE01000u);
  EXPECT_EQ(messages_.sent[0].data, 0x4041u);
  EXPECT_EQ(sink_.rises(20), 0);
}

TEST_F(HpetTest, MissedPeriodsAreOneInterruptAndKeepThePhase) {
  enable();
  write(0x100, 1u << 2 | 1u << 3 | 1u << 6 | 20u << 9);
  write(0x108, 10);
  write(0x108, 10);  // every 100 ns
  advance(1ms);
  EXPECT_LE(sink_.rises(20), 52);
  EXPECT_GE(sink_.rises(20), 40);
  EXPECT_EQ(read(0x108) % 10, 0u);
}

TEST_F(HpetTest, PeriodsThatTheGuestCouldNotTakeFollowItsAcknowledgements) {
  enable(true);  // timer 0 drives line 0
  write(0x100, 1u << 2 | 1u << 3 | 1u << 6);
  write(0x108, 100'000);
  write(0x108, 100'000);
  advance(5ms + 10us);
  ASSERT_EQ(sink_.rises(0), 5);
  for (int lost = 1; lost <= 4; ++lost) {
    sink_.acknowledge(0);
    EXPECT_EQ(sink_.rises(0), 5 + lost);
  }
  sink_.acknowledge(0);
  EXPECT_EQ(sink_.rises(0), 9);
  advance(3ms);
  write(0x100, 1u << 2 | 1u << 3 | 1u << 6);  // a new beginning
  sink_.acknowledge(0);
  EXPECT_EQ(sink_.rises(0), 12);
}

TEST_F(HpetTest, StandstillOfTheHostIsOneInterruptAndABoundedRest) {
  enable(true);
  write(0x100, 1u << 2 | 1u << 3 | 1u << 6);
  write(0x108, 100'000);
  write(0x108, 100'000);
  advance(1ms + 10us);
  sink_.acknowledge(0);
  const int before = sink_.rises(0);
  stand_still(30s);
  EXPECT_EQ(sink_.rises(0), before + 1);
  for (int i = 0; i < 1000; ++i) sink_.acknowledge(0);
  EXPECT_EQ(sink_.rises(0), before + static_cast<int>(LostTicks::kMost));
  advance(1ms);
  EXPECT_EQ(sink_.rises(0), before + 1 + static_cast<int>(LostTicks::kMost)) << "goes on as before";
}

TEST_F(HpetTest, StandstillOfTheHostIsOneInterruptOfALevelTriggeredTimer) {
  enable();
  write(0x100, 1u << 1 | 1u << 2 | 1u << 3 | 1u << 6 | 20u << 9);
  write(0x108, 100'000);
  write(0x108, 100'000);
  stand_still(30s);
  EXPECT_EQ(sink_.rises(20), 1);
  write(0x20, 1);
  EXPECT_FALSE(sink_.level(20));
  EXPECT_EQ(sink_.rises(20), 1);
}

}  // namespace
}  // namespace limen::device
