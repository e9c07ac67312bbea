#include "irq/pic_8259.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace limen::irq {
namespace {

class Pic : public ::testing::Test {
 protected:
  void SetUp() override { initialize(); }

  void out(uint16_t port, uint8_t value) { ports_.write(port, 1, value); }
  uint8_t in(uint16_t port) { return static_cast<uint8_t>(ports_.read(port, 1)); }
  void initialize(uint8_t master_icw4 = 1, uint8_t slave_icw4 = 1) {
    out(0x20, 0x11);
    out(0x21, 0x20);
    out(0x21, 0x04);
    out(0x21, master_icw4);
    out(0xA0, 0x11);
    out(0xA1, 0x28);
    out(0xA1, 0x02);
    out(0xA1, slave_icw4);
    out(0x21, 0);
    out(0xA1, 0);
  }
  void eoi(unsigned line) {
    if (line >= 8) out(0xA0, 0x20);
    out(0x20, 0x20);
  }

  memory::IoSpace ports_{"ports"};
  int changes_ = 0;
  Pic8259 pic_{ports_, [this] { ++changes_; }};
};

TEST_F(Pic, RaisesOutputAndGivesTheVectorOfALine) {
  pic_.set_line(4, true);
  EXPECT_TRUE(pic_.output());
  EXPECT_EQ(changes_, 1);
  EXPECT_EQ(pic_.acknowledge(), 0x24);
  EXPECT_FALSE(pic_.output());
}

TEST_F(Pic, CascadedLineTakesTheSlavesVectorAndBothInService) {
  pic_.set_line(12, true);
  EXPECT_EQ(pic_.acknowledge(), 0x2C);
  out(0x20, 0x0B);
  out(0xA0, 0x0B);
  EXPECT_EQ(in(0x20), 0x04);
  EXPECT_EQ(in(0xA0), 0x10);
  eoi(12);
  EXPECT_EQ(in(0x20), 0);
  EXPECT_EQ(in(0xA0), 0);
}

TEST_F(Pic, TellsWhenAProcessorTakesALine) {
  int timer = 0, clock = 0;
  pic_.on_acknowledge(0, [&] { ++timer; });
  pic_.on_acknowledge(8, [&] { ++clock; });
  pic_.set_line(0, true);
  EXPECT_EQ(pic_.acknowledge(), 0x20);
  EXPECT_EQ(timer, 1);
  eoi(0);
  pic_.set_line(8, true);
  out(0x20, 0x0C);  // polls: the cascade, then the slave
  EXPECT_EQ(in(0x20), 0x82);
  out(0xA0, 0x0C);
  EXPECT_EQ(in(0xA0), 0x80);
  EXPECT_EQ(clock, 1);
  EXPECT_EQ(timer, 1);
  EXPECT_TRUE(pic_.passes(8));
  out(0x21, 4);
  EXPECT_FALSE(pic_.passes(8));
  EXPECT_TRUE(pic_.passes(0));
}

TEST_F(Pic, LowerNumberInterruptsHigherButNotTheReverse) {
  pic_.set_line(4, true);
  EXPECT_EQ(pic_.acknowledge(), 0x24);
  pic_.set_line(6, true);
  EXPECT_FALSE(pic_.output());
  pic_.set_line(1, true);
  EXPECT_TRUE(pic_.output());
  EXPECT_EQ(pic_.acknowledge(), 0x21);
  eoi(1);
  EXPECT_FALSE(pic_.output());  // 4 is still in service
  eoi(4);
  EXPECT_EQ(pic_.acknowledge(), 0x26);
}

TEST_F(Pic, SlaveLinesRankAboveMasterLine3) {
  pic_.set_line(3, true);
  pic_.set_line(15, true);
  EXPECT_EQ(pic_.acknowledge(), 0x2F);
  eoi(15);
  EXPECT_EQ(pic_.acknowledge(), 0x23);
}

TEST_F(Pic, SecondSlaveRequestIsNotLostWhileTheFirstIsServed) {
  pic_.set_line(12, true);
  EXPECT_EQ(pic_.acknowledge(), 0x2C);
  pic_.set_line(9, true);
  EXPECT_FALSE(pic_.output());  // the master's input 2 is in service
  eoi(12);
  EXPECT_TRUE(pic_.output());
  EXPECT_EQ(pic_.acknowledge(), 0x29);
}

TEST_F(Pic, TwoSlaveRequestsAtOnceAreServedInTurn) {
  pic_.set_line(14, true);
  pic_.set_line(8, true);
  EXPECT_EQ(pic_.acknowledge(), 0x28);
  eoi(8);
  EXPECT_EQ(pic_.acknowledge(), 0x2E);
}

TEST_F(Pic, MaskedLineWaitsUntilUnmasked) {
  out(0x21, 0x10);
  pic_.set_line(4, true);
  EXPECT_FALSE(pic_.output());
  out(0x21, 0);
  EXPECT_TRUE(pic_.output());
  EXPECT_EQ(in(0x21), 0);
}

TEST_F(Pic, ShortPulseStaysLatchedInEdgeMode) {
  pic_.set_line(5, true);
  pic_.set_line(5, false);
  EXPECT_TRUE(pic_.output());
  EXPECT_EQ(pic_.acknowledge(), 0x25);
}

TEST_F(Pic, EdgeModeNeedsAFallBeforeTheNextRequest) {
  pic_.set_line(5, true);
  pic_.acknowledge();
  eoi(5);
  pic_.set_line(5, true);
  EXPECT_FALSE(pic_.output());
  pic_.set_line(5, false);
  pic_.set_line(5, true);
  EXPECT_TRUE(pic_.output());
}

TEST_F(Pic, LevelModeAsksAgainAfterEndOfInterrupt) {
  out(0x4D0, 0x20);
  EXPECT_EQ(in(0x4D0), 0x20);
  pic_.set_line(5, true);
  EXPECT_EQ(pic_.acknowledge(), 0x25);
  eoi(5);
  EXPECT_TRUE(pic_.output());
  pic_.set_line(5, false);
  EXPECT_FALSE(pic_.output());
}

TEST_F(Pic, TimerKeyboardCascadeAndClockStayEdgeTriggered) {
  ports_.write(0x4D0, 2, 0xFFFF);
  EXPECT_EQ(ports_.read(0x4D0, 2), 0xDEF8u);
}

TEST_F(Pic, AcknowledgeWithoutARequestIsTheSpuriousVector) {
  EXPECT_EQ(pic_.acknowledge(), 0x27);
  out(0x20, 0x0B);
  EXPECT_EQ(in(0x20), 0);  // nothing in service: a handler tells it by this
}

TEST_F(Pic, PollReadsTheRequestAndTakesIt) {
  pic_.set_line(6, true);
  out(0x20, 0x0C);
  EXPECT_EQ(in(0x20), 0x86);
  out(0x20, 0x0B);
  EXPECT_EQ(in(0x20), 0x40);
  out(0x20, 0x0C);
  EXPECT_EQ(in(0x20), 0);
}

TEST_F(Pic, AutomaticEndOfInterruptLeavesNothingInService) {
  initialize(3, 3);
  pic_.set_line(4, true);
  EXPECT_EQ(pic_.acknowledge(), 0x24);
  out(0x20, 0x0B);
  EXPECT_EQ(in(0x20), 0);
}

TEST_F(Pic, SpecificEndOfInterruptEndsThatOne) {
  pic_.set_line(6, true);
  pic_.acknowledge();
  pic_.set_line(1, true);
  pic_.acknowledge();
  out(0x20, 0x66);
  out(0x20, 0x0B);
  EXPECT_EQ(in(0x20), 0x02);
}

TEST_F(Pic, RotationMakesTheServedLineTheLowest) {
  pic_.set_line(3, true);
  pic_.acknowledge();
  out(0x20, 0xA0);  // rotate on non-specific EOI
  pic_.set_line(3, false);
  pic_.set_line(3, true);
  pic_.set_line(7, true);
  EXPECT_EQ(pic_.acknowledge(), 0x27);
  out(0x20, 0x20);
  EXPECT_EQ(pic_.acknowledge(), 0x23);
}

TEST_F(Pic, SetPriorityCommandNamesTheLowest) {
  out(0x20, 0xC4);  // 5 is now the highest
  pic_.set_line(0, true);
  pic_.set_line(5, true);
  EXPECT_EQ(pic_.acknowledge(), 0x25);
}

TEST_F(Pic, SpecialMaskModeLetsLowerPrioritiesThrough) {
  pic_.set_line(2 + 1, true);
  EXPECT_EQ(pic_.acknowledge(), 0x23);
  pic_.set_line(6, true);
  EXPECT_FALSE(pic_.output());
  out(0x21, 0x08);
  out(0x20, 0x68);
  EXPECT_TRUE(pic_.output());
  EXPECT_EQ(pic_.acknowledge(), 0x26);
}

TEST_F(Pic, SpecialFullyNestedModeLetsTheSlaveInterruptItself) {
  initialize(0x11, 1);
  pic_.set_line(12, true);
  EXPECT_EQ(pic_.acknowledge(), 0x2C);
  pic_.set_line(9, true);
  EXPECT_TRUE(pic_.output());
  EXPECT_EQ(pic_.acknowledge(), 0x29);
}

TEST_F(Pic, InitializationClearsMaskServiceAndEdges) {
  pic_.set_line(4, true);
  pic_.set_line(5, true);
  pic_.acknowledge();
  out(0x21, 0xFF);
  out(0x20, 0x11);
  out(0x21, 0x40);
  EXPECT_FALSE(pic_.output());
  out(0x21, 0x04);
  out(0x21, 0x01);
  EXPECT_EQ(in(0x21), 0);
  EXPECT_EQ(in(0x20), 0);
  EXPECT_FALSE(pic_.output());
  pic_.set_line(6, true);
  EXPECT_EQ(pic_.acknowledge(), 0x46);
}

TEST_F(Pic, EverythingIsMaskedAfterReset) {
  pic_.reset();
  pic_.set_line(1, true);
  EXPECT_FALSE(pic_.output());
}

TEST_F(Pic, LinesFromManyThreadsAreAllSeen) {
  std::atomic<int> taken = 0;
  std::vector<std::thread> raisers;
  for (unsigned line : {3u, 4u, 9u, 11u})
    raisers.emplace_back([this, line] {
      for (int i = 0; i < 500; ++i) {
        pic_.set_line(line, true);
        pic_.set_line(line, false);
      }
    });
  for (auto& raiser : raisers) raiser.join();
  while (pic_.output()) {
    const unsigned vector = pic_.acknowledge();
    eoi(vector - 0x20);
    ++taken;
  }
  EXPECT_EQ(taken, 4);  // one latched edge of each
}

}  // namespace
}  // namespace limen::irq
