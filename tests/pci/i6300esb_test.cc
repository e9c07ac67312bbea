// The 6300ESB's watchdog by its registers.
#include "pci/i6300esb.h"

#include <gtest/gtest.h>

#include <chrono>

#include "pci_fixture.h"

namespace limen::pci {
namespace {

using std::chrono::milliseconds;

class WatchdogTest : public testing::Test {
 protected:
  static constexpr uint64_t kBase = 0xC000'0000;

  WatchdogTest() {
    EXPECT_TRUE(bus_.attach(watchdog_).has_value());
    bus_.connect_interrupts(line_);
    power_on();
  }
  void power_on() {
    watchdog_.config_write(0x10, 4, kBase);
    watchdog_.config_write(4, 2, 7);
  }
  void write(uint64_t offset, uint32_t value, unsigned size = 4) {
    mmio_.write(kBase + offset, size, value);
  }
  /// Behind the sequence that unlocks one write.
  void write_unlocked(uint64_t offset, uint32_t value) {
    write(0xC, 0x80, 2);
    write(0xC, 0x86, 2);
    write(offset, value, offset == 0xC ? 2 : 4);
  }
  /// Two stages of so many kHz ticks, then off it goes.
  void arm(uint32_t ticks) {
    watchdog_.config_write(0x60, 2, 3);  // no interrupt between the stages
    write_unlocked(0, ticks);
    write_unlocked(4, ticks);
    watchdog_.config_write(0x68, 1, 2);
  }
  void feed() { write_unlocked(0xC, 0x100); }

  struct Line final : irq::InterruptSink {
    void set_line(unsigned, bool now) override { level = now; }
    bool level = false;
  } line_;
  memory::IoSpace ports_{"ports"}, mmio_{"mmio"};
  PciBus bus_{"pci.0", {.ports = &ports_, .mmio = &mmio_}};
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create(EventLoop::Time::kManual);
  unsigned expired_ = 0;
  bool runs_ = true;
  I6300Esb watchdog_{"watchdog",
                     *loop_,
                     {.expired = [this] { ++expired_; }, .machine_runs = [this] { return runs_; }}};
};

TEST_F(WatchdogTest, TellsWhoItIs) {
  EXPECT_EQ(watchdog_.config_read(0, 4), 0x25AB'8086u);
  EXPECT_EQ(watchdog_.config_read(8, 4) >> 8, 0x088000u);
  EXPECT_EQ(watchdog_.bar(I6300Esb::kRegisterBar).size, 16u);
}

TEST_F(WatchdogTest, ExpiresAfterBothStages) {
  arm(1000);
  loop_->advance(milliseconds(1900));
  EXPECT_EQ(expired_, 0u);
  loop_->advance(milliseconds(200));
  EXPECT_EQ(expired_, 1u);
  // Why the machine starts anew can be read afterwards, until the guest clears it.
  watchdog_.reset();
  power_on();
  EXPECT_EQ(mmio_.read(kBase + 0xC, 2), 0x200u);
  write_unlocked(0xC, 0x200);
  EXPECT_EQ(mmio_.read(kBase + 0xC, 2), 0u);
  loop_->advance(std::chrono::hours(1));
  EXPECT_EQ(expired_, 1u);
}

TEST_F(WatchdogTest, DoesNotExpireWhileItIsFed) {
  arm(1000);
  for (unsigned i = 0; i < 10; ++i) {
    loop_->advance(milliseconds(1500));
    feed();
  }
  EXPECT_EQ(expired_, 0u);
  loop_->advance(milliseconds(2100));
  EXPECT_EQ(expired_, 1u);
}

TEST_F(WatchdogTest, ALockedRegisterKeepsItsValue) {
  arm(1000);
  loop_->advance(milliseconds(1500));
  write(0xC, 0x100, 2);  // without the sequence
  write(0xC, 0x80, 2);
  write(0xC, 0x100, 2);  // with half of it
  write(0, 100'000);
  loop_->advance(milliseconds(600));
  EXPECT_EQ(expired_, 1u);
}

TEST_F(WatchdogTest, CanBeStoppedUnlessItIsLocked) {
  arm(1000);
  watchdog_.config_write(0x68, 1, 0);
  loop_->advance(milliseconds(5000));
  EXPECT_EQ(expired_, 0u);
  watchdog_.config_write(0x68, 1, 3);  // locked
  watchdog_.config_write(0x68, 1, 0);
  EXPECT_EQ(watchdog_.config_read(0x68, 1), 3u);
  loop_->advance(milliseconds(2100));
  EXPECT_EQ(expired_, 1u);
}

TEST_F(WatchdogTest, TheFastClockIsAThousandTimesFaster) {
  arm(1000);
  watchdog_.config_write(0x60, 2, 3 | 4);
  feed();
  loop_->advance(milliseconds(3));
  EXPECT_EQ(expired_, 1u);
}

TEST_F(WatchdogTest, WithItsOutputOffNothingFollows) {
  arm(1000);
  watchdog_.config_write(0x60, 2, 3 | 0x20);
  loop_->advance(milliseconds(5000));
  EXPECT_EQ(expired_, 0u);
}

TEST_F(WatchdogTest, TheFirstStageInterrupts) {
  arm(1000);
  watchdog_.config_write(0x60, 2, 0);
  loop_->advance(milliseconds(1100));
  EXPECT_TRUE(line_.level);
  EXPECT_EQ(mmio_.read(kBase + 8, 4), 1u);
  write(8, 1);
  EXPECT_FALSE(line_.level);
}

TEST_F(WatchdogTest, WaitsWhileTheMachineStandsStill) {
  arm(1000);
  runs_ = false;
  loop_->advance(std::chrono::minutes(1));
  EXPECT_EQ(expired_, 0u);
  runs_ = true;
  loop_->advance(milliseconds(1200));
  EXPECT_EQ(expired_, 1u);
}

}  // namespace
}  // namespace limen::pci
