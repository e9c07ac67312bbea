#include "web/status.h"

#include <gtest/gtest.h>

namespace limen::web {
namespace {

using std::chrono::milliseconds;

TEST(Rates, AreWhatChangedInASecond) {
  const Counters before{.time = {},
                        .processor_nanoseconds = 1'000'000'000,
                        .disk_read = 100,
                        .disk_written = 0,
                        .network_received = 5000,
                        .network_sent = 7};
  auto now = before;
  now.time += milliseconds(500);
  now.processor_nanoseconds += 750'000'000;
  now.disk_read += 1000;
  now.network_received += 50;
  const auto changed = rates(before, now);
  EXPECT_DOUBLE_EQ(changed.load, 1.5);
  EXPECT_DOUBLE_EQ(changed.disk_read, 2000);
  EXPECT_DOUBLE_EQ(changed.disk_written, 0);
  EXPECT_DOUBLE_EQ(changed.network_received, 100);
  EXPECT_DOUBLE_EQ(changed.network_sent, 0);
}

TEST(Rates, ACounterThatWentBackDidNotMove) {
  const Counters before{.time = {}, .disk_read = 100};
  Counters now{.time = before.time + milliseconds(1000)};
  EXPECT_DOUBLE_EQ(rates(before, now).disk_read, 0);
  now.time = before.time;
  EXPECT_DOUBLE_EQ(rates(before, now).load, 0);
}

}  // namespace
}  // namespace limen::web
