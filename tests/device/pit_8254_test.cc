#include "device/pit_8254.h"

#include "device/pc_fixture.h"

namespace limen::device {
namespace {

/// The time in which exactly `ticks` ticks have passed.
Clock::duration ticks(uint64_t count) {
  return std::chrono::nanoseconds((count * 1'000'000'000 + Pit8254::kFrequency - 1) /
                                  Pit8254::kFrequency);
}

class Pit : public DeviceTest {
 protected:
  void program(unsigned counter, uint8_t mode, uint16_t count) {
    out(0x43, static_cast<uint8_t>(counter << 6 | 0x30 | mode << 1));
    write_count(counter, count);
  }
  void write_count(unsigned counter, uint16_t count) {
    out(static_cast<uint16_t>(0x40 + counter), count & 0xFF);
    out(static_cast<uint16_t>(0x40 + counter), count >> 8);
  }
  uint32_t count(unsigned counter) {
    const uint32_t low = in(static_cast<uint16_t>(0x40 + counter));
    return low | in(static_cast<uint16_t>(0x40 + counter)) << 8;
  }
  uint32_t latched(unsigned counter) {
    out(0x43, static_cast<uint8_t>(counter << 6));
    return count(counter);
  }
  uint32_t status(unsigned counter) {
    out(0x43, 0xE0 | 2u << counter);
    return in(static_cast<uint16_t>(0x40 + counter));
  }
  bool out2() { return (in(0x61) & 0x20) != 0; }

  Pit8254 pit_{ports_, line(0), *loop_};
};

TEST_F(Pit, Mode0CountsDownPastZeroAndRaisesItsOutput) {
  out(0x61, 1);
  program(2, 0, 1000);
  EXPECT_FALSE(out2());
  advance(ticks(400));
  EXPECT_EQ(count(2), 600u);
  EXPECT_FALSE(out2());
  advance(ticks(600));
  EXPECT_TRUE(out2());
  advance(ticks(10));
  EXPECT_TRUE(out2());
  EXPECT_GE(count(2), 0xFFF0u);
}

TEST_F(Pit, AWaitForCounter2BeginsWithTheFirstPoll) {
  out(0x61, 1);
  program(2, 0, 1000);
  advance(ticks(5000));  // the guest's thread did not run
  EXPECT_FALSE(out2());
  advance(ticks(999));
  EXPECT_FALSE(out2());
  advance(ticks(1));
  EXPECT_TRUE(out2());

  out(0x61, 0);
  program(2, 0, 1000);
  out(0x61, 1);
  advance(ticks(5000));
  EXPECT_FALSE(out2()) << "the gate starts it as well as the count";
  advance(ticks(1000));
  EXPECT_TRUE(out2());
}

TEST_F(Pit, APollAfterAPauseFindsCounter2LowOnceMore) {
  out(0x61, 1);
  program(2, 0, 1000);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(out2());
    advance(ticks(3));
  }
  advance(ticks(5000));  // the guest's thread did not run
  EXPECT_FALSE(out2()) << "the guest has not read its TSC since the pause";
  EXPECT_TRUE(out2());
  EXPECT_TRUE(out2());

  program(2, 0, 1000);
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(out2());
    advance(ticks(100));
  }
  EXPECT_TRUE(out2()) << "no pause";
}

TEST_F(Pit, Counter2IsAStopwatchForThoseWhoReadItsCount) {
  out(0x61, 1);
  program(2, 0, 1000);
  advance(ticks(400));
  EXPECT_EQ(latched(2), 600u);
  EXPECT_FALSE(out2());
  advance(ticks(600));
  EXPECT_TRUE(out2());
}

TEST_F(Pit, Mode0InterruptsOnce) {
  program(0, 0, 1193);
  advance(std::chrono::milliseconds(10));
  EXPECT_EQ(sink_.rises(0), 1);
  EXPECT_TRUE(sink_.level(0));
  program(0, 0, 1193);
  EXPECT_FALSE(sink_.level(0));
  advance(std::chrono::milliseconds(10));
  EXPECT_EQ(sink_.rises(0), 2);
}

TEST_F(Pit, Mode0StopsBetweenTheTwoBytesOfANewCount) {
  out(0x61, 1);
  program(2, 0, 100);
  out(0x42, 0xE8);
  advance(ticks(1000));
  EXPECT_FALSE(out2());
  out(0x42, 0x03);
  EXPECT_FALSE(out2());
  advance(ticks(999));
  EXPECT_FALSE(out2());
  advance(ticks(2));
  EXPECT_TRUE(out2());
}

TEST_F(Pit, Mode2InterruptsEveryPeriod) {
  program(0, 2, 11932);  // 100 Hz
  advance(std::chrono::seconds(1));
  EXPECT_NEAR(sink_.rises(0), 100, 1);
}

TEST_F(Pit, Mode2ReloadsAndNeverReadsZero) {
  out(0x61, 1);
  program(2, 2, 10);
  for (int i = 0; i < 50; ++i) {
    const uint32_t value = latched(2);
    EXPECT_GE(value, 1u);
    EXPECT_LE(value, 10u);
    EXPECT_EQ(out2(), value != 1);
    advance(ticks(1));
  }
}

TEST_F(Pit, Mode3IsASquareWaveThatCountsByTwo) {
  out(0x61, 1);
  program(2, 3, 1000);
  EXPECT_TRUE(out2());
  advance(ticks(250));
  EXPECT_EQ(latched(2), 500u);
  EXPECT_TRUE(out2());
  advance(ticks(250));
  EXPECT_FALSE(out2());
  EXPECT_EQ(latched(2), 1000u);
  advance(ticks(500));
  EXPECT_TRUE(out2());
}

TEST_F(Pit, NewCountOfAPeriodicCounterTakesEffectAtTheEndOfThePeriod) {
  out(0x61, 1);
  program(2, 2, 1000);
  advance(ticks(300));
  write_count(2, 50);
  EXPECT_EQ(latched(2), 700u);
  EXPECT_NE(status(2) & 0x40, 0u);  // null count
  advance(ticks(700));
  EXPECT_LE(latched(2), 50u);
  EXPECT_EQ(status(2) & 0x40, 0u);
}

TEST_F(Pit, Mode4StrobesOnce) {
  program(0, 4, 100);
  EXPECT_TRUE(sink_.level(0));
  const int before = sink_.rises(0);
  advance(std::chrono::milliseconds(200));
  EXPECT_EQ(sink_.rises(0), before + 1);
}

TEST_F(Pit, Mode1IsTriggeredByTheGate) {
  program(2, 1, 100);
  EXPECT_TRUE(out2());
  advance(ticks(500));
  EXPECT_TRUE(out2());
  out(0x61, 1);
  EXPECT_FALSE(out2());
  advance(ticks(50));
  out(0x61, 0);
  EXPECT_FALSE(out2());
  out(0x61, 1);  // triggers anew
  advance(ticks(60));
  EXPECT_FALSE(out2());
  advance(ticks(41));
  EXPECT_TRUE(out2());
}

TEST_F(Pit, LowGateHaltsMode0) {
  out(0x61, 1);
  program(2, 0, 1000);
  advance(ticks(100));
  out(0x61, 0);
  advance(ticks(5000));
  EXPECT_EQ(latched(2), 900u);
  out(0x61, 1);
  advance(ticks(100));
  EXPECT_NEAR(latched(2), 800, 1);
}

TEST_F(Pit, CountLoadedWhileTheGateIsLowWaits) {
  program(2, 0, 1000);
  advance(ticks(5000));
  EXPECT_EQ(latched(2), 1000u);
  EXPECT_FALSE(out2());
}

TEST_F(Pit, LatchHoldsUntilReadWhole) {
  out(0x61, 1);
  program(2, 2, 50000);
  advance(ticks(1000));
  out(0x43, 0x80);
  advance(ticks(1000));
  out(0x43, 0x80);  // ignored: the first latch was not read
  EXPECT_EQ(count(2), 49000u);
  EXPECT_NEAR(count(2), 48000, 1);
}

TEST_F(Pit, ReadBackLatchesStatusAndCountOfSeveralCounters) {
  out(0x61, 1);
  program(0, 2, 5000);
  program(2, 3, 6000);
  advance(ticks(10));
  out(0x43, 0xCA);             // counters 0 and 2, both
  EXPECT_EQ(in(0x40), 0xB4u);  // OUT high, both bytes, mode 2
  EXPECT_EQ(count(0), 4990u);
  EXPECT_EQ(in(0x42), 0xB6u);
  EXPECT_EQ(count(2), 5980u);
}

TEST_F(Pit, BcdCountsInDecimal) {
  out(0x61, 1);
  out(0x43, 0xB1);  // counter 2, mode 0, BCD
  write_count(2, 0x1000);
  advance(ticks(1));
  EXPECT_EQ(latched(2), 0x0999u);
}

TEST_F(Pit, SingleByteAccessLoadsThatByte) {
  out(0x61, 1);
  out(0x43, 0x90);  // counter 2, low byte, mode 0
  out(0x42, 200);
  EXPECT_EQ(in(0x42), 200u);
  out(0x43, 0xA0);  // high byte
  out(0x42, 2);
  EXPECT_EQ(in(0x42), 2u);
  advance(ticks(1));
  EXPECT_EQ(in(0x42), 1u);
}

TEST_F(Pit, MissedPeriodsAreOneInterrupt) {
  auto loop = EventLoop::create().value();
  irq::RecordingSink sink;
  memory::IoSpace ports{"ports"};
  Pit8254 pit(ports, {sink, 0}, *loop);
  ports.write(0x43, 1, 0x34);
  ports.write(0x40, 1, 0xA9);  // 1 ms
  ports.write(0x40, 1, 0x04);
  const auto until = Clock::now() + std::chrono::milliseconds(8);
  while (Clock::now() < until) {
  }
  const int before = sink.rises(0);
  loop->poll();
  EXPECT_EQ(sink.rises(0), before + 1);
  loop->poll();
  EXPECT_LE(sink.rises(0), before + 2);
}

TEST_F(Pit, ShortPeriodsAreMerged) {
  program(0, 2, 1);
  advance(std::chrono::milliseconds(10));
  EXPECT_LE(sink_.rises(0), 501);
  EXPECT_GE(sink_.rises(0), 400);
}

TEST_F(Pit, HpetCanTakeTheInterruptAway) {
  program(0, 2, 1193);
  pit_.set_interrupt_enabled(false);
  const int before = sink_.rises(0);
  advance(std::chrono::milliseconds(20));
  EXPECT_EQ(sink_.rises(0), before);
  pit_.set_interrupt_enabled(true);
  advance(std::chrono::milliseconds(20));
  EXPECT_GT(sink_.rises(0), before + 10);
}

TEST_F(Pit, Port61KeepsItsControlBitsAndTogglesRefresh) {
  out(0x61, 0xFF);
  EXPECT_EQ(in(0x61) & 0xCF, 0x0Fu);
  const uint32_t before = in(0x61) & 0x10;
  advance(std::chrono::nanoseconds(15'085));
  EXPECT_NE(in(0x61) & 0x10, before);
}

TEST_F(Pit, ResetStopsTheTimer) {
  program(0, 2, 1193);
  pit_.reset();
  const int before = sink_.rises(0);
  advance(std::chrono::milliseconds(20));
  EXPECT_EQ(sink_.rises(0), before);
}

TEST_F(Pit, PeriodsThatTheGuestCouldNotTakeFollowItsAcknowledgements) {
  program(0, 2, 1193);
  const int before = sink_.rises(0);
  advance(ticks(1193) * 5);
  ASSERT_EQ(sink_.rises(0), before + 5);
  for (int lost = 1; lost <= 4; ++lost) {
    sink_.acknowledge(0);
    EXPECT_EQ(sink_.rises(0), before + 5 + lost);
  }
  sink_.acknowledge(0);
  EXPECT_EQ(sink_.rises(0), before + 9);
  advance(ticks(1193));
  EXPECT_EQ(sink_.rises(0), before + 10);
}

TEST_F(Pit, PeriodsOfAMaskedLineOrAnEarlierCountDoNotFollow) {
  sink_.open = false;
  program(0, 2, 1193);
  const int before = sink_.rises(0);
  advance(ticks(1193) * 5);
  sink_.acknowledge(0);
  EXPECT_EQ(sink_.rises(0), before + 5);
  sink_.open = true;
  advance(ticks(1193) * 3);
  program(0, 0, 65535);
  const int rises = sink_.rises(0);
  sink_.acknowledge(0);
  EXPECT_EQ(sink_.rises(0), rises);
}

TEST_F(Pit, StandstillOfTheHostIsOneInterruptAndABoundedRest) {
  program(0, 2, 1193);
  advance(ticks(1193));
  sink_.acknowledge(0);
  const int before = sink_.rises(0);
  stand_still(std::chrono::seconds(30));
  EXPECT_EQ(sink_.rises(0), before + 1);
  for (int i = 0; i < 1000; ++i) sink_.acknowledge(0);
  EXPECT_EQ(sink_.rises(0), before + static_cast<int>(LostTicks::kMost));
  advance(ticks(1193));
  EXPECT_EQ(sink_.rises(0), before + 1 + static_cast<int>(LostTicks::kMost)) << "goes on as before";
}

}  // namespace
}  // namespace limen::device
