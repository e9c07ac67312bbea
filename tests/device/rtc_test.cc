#include "device/rtc.h"

#include "device/pc_fixture.h"

namespace limen::device {
namespace {

using namespace std::chrono_literals;

class Clock70 : public DeviceTest {
 protected:
  uint32_t get(uint8_t index) {
    out(0x70, index);
    return in(0x71);
  }
  void set(uint8_t index, uint32_t value) {
    out(0x70, index);
    out(0x71, value);
  }
  /// 2024-02-29 23:59:57.5, a Thursday, plus what the loop's clock has moved on.
  std::chrono::system_clock::time_point wall() {
    using namespace std::chrono;
    return sys_days(2024y / February / 29) + 23h + 59min + 57s + 500ms +
           duration_cast<system_clock::duration>(loop_->now() - begin_);
  }

  int alarms_ = 0;
  Clock::time_point begin_ = loop_->now();
  Rtc rtc_{ports_,
           line(8),
           *loop_,
           {.memory_below_4g = uint64_t{2} << 30,
            .memory_above_4g = uint64_t{1} << 30,
            .wall_clock = [this] { return wall(); },
            .alarm = [this] { ++alarms_; }}};
};

TEST_F(Clock70, ShowsTheDateInBcd) {
  EXPECT_EQ(get(0x00), 0x57u);
  EXPECT_EQ(get(0x02), 0x59u);
  EXPECT_EQ(get(0x04), 0x23u);
  EXPECT_EQ(get(0x06), 5u);
  EXPECT_EQ(get(0x07), 0x29u);
  EXPECT_EQ(get(0x08), 0x02u);
  EXPECT_EQ(get(0x09), 0x24u);
  EXPECT_EQ(get(0x32), 0x20u);
  advance(3s);
  EXPECT_EQ(get(0x00), 0x00u);
  EXPECT_EQ(get(0x07), 0x01u);
  EXPECT_EQ(get(0x08), 0x03u);
}

TEST_F(Clock70, ShowsBinaryAndTwelveHoursWhenAsked) {
  set(0x0B, 0x04);
  EXPECT_EQ(get(0x00), 57u);
  EXPECT_EQ(get(0x04), 0x80u | 11u);
  advance(1h);
  EXPECT_EQ(get(0x04), 12u);  // half past midnight
}

TEST_F(Clock70, SettingTheTimeHoldsTheClockUntilSetIsReleased) {
  set(0x0B, 0x82);
  const std::pair<uint8_t, uint8_t> fields[] = {{0x09, 0x31}, {0x08, 0x12}, {0x07, 0x31},
                                                {0x04, 0x08}, {0x02, 0x07}, {0x00, 0x06}};
  for (const auto& [index, value] : fields) set(index, value);
  advance(10s);
  EXPECT_EQ(get(0x00), 0x06u);
  set(0x0B, 0x02);
  advance(2s);
  EXPECT_EQ(get(0x09), 0x31u);
  EXPECT_EQ(get(0x08), 0x12u);
  EXPECT_EQ(get(0x07), 0x31u);
  EXPECT_EQ(get(0x04), 0x08u);
  EXPECT_EQ(get(0x02), 0x07u);
  EXPECT_EQ(get(0x00), 0x08u);
}

TEST_F(Clock70, AlarmIsToldOnceWhereItIsEnabled) {
  set(0x01, 0x59);
  set(0x03, 0xFF);
  set(0x05, 0xFF);
  advance(70s);
  EXPECT_EQ(alarms_, 0);
  set(0x0B, 0x22);
  advance(70s);
  EXPECT_EQ(alarms_, 1);
  // The HPET in its interrupt's place changes nothing.
  rtc_.set_interrupt_enabled(false);
  advance(60s);
  EXPECT_EQ(alarms_, 2);
}

TEST_F(Clock70, TellsFirmwareOfResume) {
  rtc_.reset();
  EXPECT_EQ(get(0x0F), 0u);
  rtc_.set_resumed();
  EXPECT_EQ(get(0x0F), 0xFEu);
}

TEST_F(Clock70, AnyOrderOfFieldsSetsTheDate) {
  set(0x0B, 0x82);
  set(0x07, 0x31);  // no 31 February: the month follows
  set(0x08, 0x03);
  set(0x0B, 0x02);
  EXPECT_EQ(get(0x07), 0x31u);
  EXPECT_EQ(get(0x08), 0x03u);
}

TEST_F(Clock70, UpdateInProgressAnnouncesTheNextSecond) {
  EXPECT_EQ(get(0x0A) & 0x80, 0u);
  advance(499ms);
  EXPECT_EQ(get(0x0A) & 0x80, 0x80u);
  advance(1ms);
  EXPECT_EQ(get(0x0A) & 0x80, 0u);
}

TEST_F(Clock70, PeriodicInterruptComesAtItsRateOnceEachIsRead) {
  set(0x0A, 0x2F);  // 2 Hz
  set(0x0B, 0x42);
  advance(500ms);
  EXPECT_TRUE(sink_.level(8));
  advance(5s);
  EXPECT_EQ(sink_.rises(8), 1);
  EXPECT_EQ(get(0x0C) & 0xC0, 0xC0u);
  EXPECT_FALSE(sink_.level(8));
  EXPECT_EQ(get(0x0C), 0u);
  advance(500ms);
  EXPECT_EQ(sink_.rises(8), 2);
}

TEST_F(Clock70, RateSixIs1024Hz) {
  set(0x0B, 0x42);
  int interrupts = 0;
  for (int i = 0; i < 10'000; ++i) {
    advance(100us);
    if ((get(0x0C) & 0x40) != 0) ++interrupts;
  }
  EXPECT_NEAR(interrupts, 1024, 2);
}

TEST_F(Clock70, UpdateEndedInterruptComesEverySecond) {
  set(0x0B, 0x12);
  advance(499ms);
  EXPECT_FALSE(sink_.level(8));
  advance(2ms);
  EXPECT_TRUE(sink_.level(8));
  EXPECT_EQ(get(0x0C), 0x90u);
}

TEST_F(Clock70, AlarmMatchesItsTimeAndHonoursDontCare) {
  set(0x01, 0x02);
  set(0x03, 0x00);
  set(0x05, 0xFF);
  set(0x0B, 0x22);
  advance(4s);
  EXPECT_FALSE(sink_.level(8));
  advance(1s);
  EXPECT_TRUE(sink_.level(8));
  EXPECT_EQ(get(0x0C) & 0xA0, 0xA0u);
  advance(59min);
  EXPECT_FALSE(sink_.level(8));
  advance(1min);
  EXPECT_TRUE(sink_.level(8));
}

TEST_F(Clock70, AlarmFlagIsSetEvenWithoutTheInterrupt) {
  set(0x01, 0x59);
  set(0x03, 0xC0);
  set(0x05, 0xC0);
  get(0x0C);
  advance(2s);
  EXPECT_EQ(get(0x0C), 0x30u);
  EXPECT_FALSE(sink_.level(8));
}

TEST_F(Clock70, CmosTellsTheMemorySize) {
  EXPECT_EQ(get(0x15) | get(0x16) << 8, 640u);
  EXPECT_EQ(get(0x30) | get(0x31) << 8, 65535u);
  EXPECT_EQ(get(0x34) | get(0x35) << 8, (2048u - 16u) * 16u);
  EXPECT_EQ(get(0x5B) | get(0x5C) << 8 | get(0x5D) << 16, 1024u * 16u);
  EXPECT_EQ(get(0x0D), 0x80u);
}

TEST_F(Clock70, MemorySurvivesResetAndInterruptEnablesDoNot) {
  set(0x50, 0xA5);
  set(0x0B, 0x72);
  advance(2s);
  EXPECT_TRUE(sink_.level(8));
  rtc_.reset();
  EXPECT_FALSE(sink_.level(8));
  EXPECT_EQ(get(0x50), 0xA5u);
  EXPECT_EQ(get(0x0B), 0x02u);
}

TEST_F(Clock70, NmiMaskBitIsNoPartOfTheIndex) { EXPECT_EQ(get(0x80), 0x57u); }

TEST_F(Clock70, StandstillOfTheHostIsOneInterrupt) {
  set(0x0A, 0x26);  // 1024 Hz
  set(0x0B, 0x52);  // periodic and update-ended
  const int before = sink_.rises(8);
  stand_still(30s);
  EXPECT_EQ(sink_.rises(8), before + 1);
  EXPECT_EQ(get(0x0C) & 0xD0, 0xD0u);
  EXPECT_EQ(sink_.rises(8), before + 1);
  advance(1ms);
  EXPECT_EQ(sink_.rises(8), before + 2) << "goes on as before";
}

TEST_F(Clock70, LostInterruptsComeLaterWhereTheyAreWanted) {
  EventLoop& loop = *loop_;
  memory::IoSpace ports("ports");
  Rtc clock(ports, line(8), loop, {.catch_up = true});
  const auto write = [&](uint8_t index, uint8_t value) {
    ports.write(0x70, 1, index);
    ports.write(0x71, 1, value);
  };
  write(0x0A, 0x2F);  // 2 Hz
  write(0x0B, 0x42);
  const int before = sink_.rises(8);
  advance(5s);
  EXPECT_EQ(sink_.rises(8), before + 1);
  ports.write(0x70, 1, 0x0C);
  for (int i = 2; i <= 10; ++i) {
    EXPECT_EQ(ports.read(0x71, 1) & 0xC0, 0xC0u);
    EXPECT_EQ(sink_.rises(8), before + i);
  }
  EXPECT_EQ(ports.read(0x71, 1) & 0xC0, 0xC0u);
  EXPECT_FALSE(sink_.level(8)) << "all have come";
  advance(500ms);
  EXPECT_EQ(sink_.rises(8), before + 11);
}

}  // namespace
}  // namespace limen::device
