#include "irq/line_output.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "irq/recording_sink.h"

namespace limen::irq {
namespace {

using Log = std::vector<std::pair<unsigned, bool>>;

TEST(LineOutput, EndsAtTheLevelWantedLast) {
  RecordingSink sink;
  LineOutput line({sink, 1});
  line.publish();
  line.want(true);
  line.publish();
  line.publish();
  line.want(false);
  line.publish();
  EXPECT_EQ(sink.log(), Log({{1, true}, {1, false}}));
}

TEST(LineOutput, AFallThatAnotherRiseOvertakesMakesAnEdge) {
  RecordingSink sink;
  LineOutput line({sink, 1});
  line.want(true);
  line.publish();
  line.want(false);
  line.want(true);
  line.publish();
  line.publish();
  EXPECT_EQ(sink.log(), Log({{1, true}, {1, false}, {1, true}}));
}

TEST(LineOutput, ARiseThatAFallOvertakesIsNotShown) {
  RecordingSink sink;
  LineOutput line({sink, 1});
  line.want(true);
  line.want(false);
  line.publish();
  line.want(true);
  line.publish();
  EXPECT_EQ(sink.log(), Log({{1, true}}));
}

}  // namespace
}  // namespace limen::irq
