#include "device/acpi_pm.h"

#include "device/pc_fixture.h"

namespace limen::device {
namespace {

class Acpi : public DeviceTest {
 protected:
  uint32_t timer() { return in(0x608, 4); }

  void suspend() { out(0x604, 1 << 10 | 1 << 13, 2); }
  uint32_t status() { return in(0x600, 2); }

  int power_offs_ = 0, suspends_ = 0, hibernations_ = 0, wake_ups_ = 0;
  AcpiPm pm_{ports_,
             line(9),
             *loop_,
             {.soft_off_type = 5, .suspend_type = 1, .hibernate_type = 2},
             {.power_off = [this] { ++power_offs_; },
              .suspend = [this] { ++suspends_; },
              .hibernate = [this] { ++hibernations_; },
              .wake_up = [this] { ++wake_ups_; }}};
};

TEST_F(Acpi, TimerRunsAtItsFrequencyWith32Bits) {
  const uint32_t start = timer();
  advance(std::chrono::seconds(1));
  EXPECT_EQ(timer() - start, 3'579'545u);
  advance(std::chrono::seconds(1000));
  EXPECT_EQ(timer() - start, 3'583'124'545u);
}

TEST_F(Acpi, TimerOf24BitsWraps) {
  memory::IoSpace ports{"ports"};
  AcpiPm pm(ports, {}, *loop_, {.timer_is_32_bit = false}, {});
  advance(std::chrono::seconds(5));
  EXPECT_EQ(ports.read(0x608, 4), (5u * 3'579'545u) & 0xFFFFFF);
}

TEST_F(Acpi, EnableHandshakeSetsSciEnable) {
  EXPECT_EQ(in(0x604, 2) & 1, 0u);
  out(0xB2, 2);
  EXPECT_EQ(in(0x604, 2) & 1, 1u);
  EXPECT_EQ(in(0xB2), 2u);
  out(0xB2, 3);
  EXPECT_EQ(in(0x604, 2) & 1, 0u);
  out(0xB3, 0x77);
  EXPECT_EQ(in(0xB3), 0x77u);
}

TEST_F(Acpi, SoftOffNeedsItsSleepTypeAndTheEnableBit) {
  out(0x604, 5 << 10, 2);
  EXPECT_EQ(power_offs_, 0);
  out(0x604, 3 << 10 | 1 << 13, 2);
  EXPECT_EQ(power_offs_, 0);
  out(0x604, 5 << 10 | 1 << 13, 2);
  EXPECT_EQ(power_offs_, 1);
  EXPECT_EQ(in(0x604, 2), 5u << 10);  // SLP_EN reads as 0
}

TEST_F(Acpi, SoftOffWorksByteWise) {
  out(0x605, (5 << 10 | 1 << 13) >> 8);
  EXPECT_EQ(power_offs_, 1);
  // As QEMU's tables have it, so firmware does not ask.
  out(0x604, 1 << 13, 2);
  EXPECT_EQ(power_offs_, 2);
}

TEST_F(Acpi, PowerButtonRaisesTheSciUntilItsStatusIsCleared) {
  out(0xB2, 2);
  pm_.press_power_button();
  EXPECT_FALSE(sink_.level(9));
  out(0x602, 0x100, 2);
  EXPECT_TRUE(sink_.level(9));
  EXPECT_EQ(in(0x600, 2) & 0x100, 0x100u);
  out(0x600, 0x100, 2);
  EXPECT_FALSE(sink_.level(9));
  EXPECT_EQ(in(0x600, 2) & 0x100, 0u);
}

TEST_F(Acpi, EventsRaiseNoSciInLegacyMode) {
  out(0x602, 0x100, 2);
  pm_.press_power_button();
  EXPECT_FALSE(sink_.level(9));
  out(0xB2, 2);
  EXPECT_TRUE(sink_.level(9));
}

TEST_F(Acpi, TimerStatusFollowsTheHighestBit) {
  out(0xB2, 2);
  out(0x602, 1, 2);
  advance(std::chrono::seconds(599));
  EXPECT_FALSE(sink_.level(9));
  advance(std::chrono::seconds(2));  // 2^31 ticks are 599.9 s
  EXPECT_TRUE(sink_.level(9));
  out(0x600, 1, 2);
  EXPECT_FALSE(sink_.level(9));
  advance(std::chrono::seconds(600));
  EXPECT_TRUE(sink_.level(9));
}

TEST_F(Acpi, GeneralPurposeEventsHaveStatusAndEnable) {
  out(0xB2, 2);
  pm_.raise_event(9);
  EXPECT_EQ(in(0x621), 2u);
  EXPECT_FALSE(sink_.level(9));
  out(0x629, 2);
  EXPECT_TRUE(sink_.level(9));
  out(0x621, 2);
  EXPECT_FALSE(sink_.level(9));
  pm_.raise_event(1000);
}

constexpr uint32_t kPowerButton = 1 << 8, kRtc = 1 << 10, kWoken = 1 << 15;

TEST_F(Acpi, SleepTypesTellSuspendToRamAndToDiskApart) {
  suspend();
  EXPECT_EQ(suspends_, 1);
  out(0x604, 2 << 10 | 1 << 13, 2);
  EXPECT_EQ(hibernations_, 1);
  EXPECT_EQ(power_offs_, 0);
  AcpiPm without(mmio_, {}, *loop_, {.soft_off_type = 5},
                 {.power_off = {}, .suspend = [this] { ++suspends_; }});
  EXPECT_FALSE(without.can_suspend());
  mmio_.write(0x604, 2, 1 << 10 | 1 << 13);
  EXPECT_EQ(suspends_, 1);
}

TEST_F(Acpi, PowerButtonWakesWhateverIsEnabled) {
  pm_.press_power_button();
  EXPECT_EQ(wake_ups_, 0);
  out(0x600, kPowerButton, 2);
  suspend();
  EXPECT_FALSE(pm_.woken());
  pm_.press_power_button();
  EXPECT_EQ(wake_ups_, 1);
  EXPECT_TRUE(pm_.woken());
  EXPECT_EQ(status(), kPowerButton | kWoken);
  pm_.press_power_button();
  EXPECT_EQ(wake_ups_, 1);
}

TEST_F(Acpi, AlarmWakesWhenItIsEnabled) {
  suspend();
  pm_.ring_alarm();
  EXPECT_EQ(wake_ups_, 0);
  EXPECT_EQ(status(), kRtc);
  out(0x602, kRtc, 2);
  pm_.ring_alarm();
  EXPECT_EQ(wake_ups_, 1);
  EXPECT_EQ(status(), kRtc | kWoken);
}

TEST_F(Acpi, WhatIsPendingEndsSuspendAtOnce) {
  out(0x602, kRtc, 2);
  pm_.ring_alarm();
  EXPECT_EQ(wake_ups_, 0);
  suspend();
  EXPECT_EQ(suspends_, 1);
  EXPECT_TRUE(pm_.woken());
  out(0x600, kRtc | kWoken, 2);
  suspend();
  EXPECT_FALSE(pm_.woken());
  out(0x629, 2);
  pm_.raise_event(9);
  EXPECT_TRUE(pm_.woken());
}

TEST_F(Acpi, AWishToWakeCountsOnlyInSuspend) {
  pm_.wake_up();
  EXPECT_EQ(status(), 0u);
  suspend();
  pm_.wake_up();
  EXPECT_EQ(status(), kPowerButton | kWoken);
  EXPECT_EQ(wake_ups_, 1);
}

TEST_F(Acpi, ResumeKeepsStatusAndEnableAndLeavesAcpiMode) {
  out(0xB2, 2);
  out(0x602, kPowerButton | kRtc, 2);
  out(0x629, 2);
  suspend();
  pm_.ring_alarm();
  pm_.resume();
  EXPECT_FALSE(sink_.level(9));
  EXPECT_FALSE(pm_.woken());
  EXPECT_EQ(in(0x604, 2), 0u);
  EXPECT_EQ(status(), kRtc | kWoken);
  EXPECT_EQ(in(0x602, 2), kPowerButton | kRtc);
  EXPECT_EQ(in(0x629), 2u);
  out(0xB2, 2);
  EXPECT_TRUE(sink_.level(9));
  pm_.reset();
  EXPECT_EQ(status(), 0u);
  EXPECT_EQ(in(0x602, 2), 0u);
}

TEST_F(Acpi, ResetReleasesTheSciAndLeavesAcpiMode) {
  out(0xB2, 2);
  out(0x602, 0x100, 2);
  pm_.press_power_button();
  pm_.reset();
  EXPECT_FALSE(sink_.level(9));
  EXPECT_EQ(in(0x604, 2), 0u);
}

}  // namespace
}  // namespace limen::device
