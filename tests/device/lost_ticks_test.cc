#include "device/lost_ticks.h"

#include <gtest/gtest.h>

namespace limen::device {
namespace {

/// Edges that acknowledgements ask for until no more comes.
uint64_t made_up_for(LostTicks& ticks) {
  uint64_t count = 0;
  while (ticks.acknowledged()) ++count;
  return count;
}

TEST(LostTicks, EdgeThatIsTakenInTimeLeavesNothing) {
  LostTicks ticks;
  for (int i = 0; i < 3; ++i) {
    ticks.raised(1, true);
    EXPECT_FALSE(ticks.acknowledged());
  }
}

TEST(LostTicks, PeriodsThatEndedUnseenAreMadeUpForOneAtATime) {
  LostTicks ticks;
  ticks.raised(5, true);
  EXPECT_EQ(made_up_for(ticks), 4u);
  EXPECT_FALSE(ticks.acknowledged());
}

TEST(LostTicks, EdgeThatMeetsOneNotYetTakenIsMadeUpFor) {
  LostTicks ticks;
  for (int i = 0; i < 5; ++i) ticks.raised(1, true);
  EXPECT_TRUE(ticks.acknowledged());
  ticks.raised(1, true);
  EXPECT_EQ(made_up_for(ticks), 4u);
}

TEST(LostTicks, LongStandstillIsBounded) {
  LostTicks ticks;
  ticks.raised(UINT64_MAX, true);
  for (int i = 0; i < 1000; ++i) ticks.raised(1, true);
  EXPECT_EQ(made_up_for(ticks), LostTicks::kMost);
}

TEST(LostTicks, MaskedLineLosesNothing) {
  LostTicks ticks;
  ticks.raised(5, true);
  ticks.raised(5, false);
  EXPECT_EQ(made_up_for(ticks), 0u);
}

}  // namespace
}  // namespace limen::device
