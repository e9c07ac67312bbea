#include "display/changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace limen::display {
namespace {

using testing::ElementsAre;

std::vector<Rectangle> collect(std::initializer_list<Rectangle> parts, size_t most = 32) {
  std::vector<Rectangle> collected;
  for (const auto& part : parts) add_part(collected, part, most);
  return collected;
}

TEST(AddPart, WhatIsDrawnAgainCountsOnce) {
  EXPECT_THAT(collect({{10, 10, 100, 50}, {10, 10, 100, 50}, {20, 20, 5, 5}, {8, 8, 200, 60}}),
              ElementsAre(Rectangle{8, 8, 200, 60}));
}

TEST(AddPart, PartsOfOneRectangleAreJoined) {
  EXPECT_THAT(collect({{0, 0, 10, 4}, {0, 4, 10, 6}}), ElementsAre(Rectangle{0, 0, 10, 10}));
  EXPECT_THAT(collect({{0, 0, 100, 100}, {8, 0, 100, 100}}),
              ElementsAre(Rectangle{0, 0, 108, 100}));
}

TEST(AddPart, WhatLiesApartStaysApart) {
  EXPECT_THAT(
      collect({{0, 0, 10, 10}, {20, 20, 10, 10}, {40, 0, 10, 10}}),
      ElementsAre(Rectangle{0, 0, 10, 10}, Rectangle{20, 20, 10, 10}, Rectangle{40, 0, 10, 10}));
}

TEST(AddPart, APartThatGrowsSwallowsOthers) {
  // The gap between the first and the second is closed by the third.
  EXPECT_THAT(collect({{0, 0, 10, 10}, {50, 0, 10, 10}, {10, 0, 40, 10}}),
              ElementsAre(Rectangle{0, 0, 60, 10}));
}

TEST(AddPart, TooManyAreJoinedInAnyCase) {
  EXPECT_THAT(collect({{0, 0, 1, 1}, {10, 10, 1, 1}, {20, 20, 1, 1}}, 2),
              ElementsAre(Rectangle{0, 0, 1, 1}, Rectangle{10, 10, 11, 11}));
}

}  // namespace
}  // namespace limen::display
