#include "block/filters/throttle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <thread>

#include "block/scratch.h"
#include "virtio/memory_disk.h"

namespace limen::block {
namespace {

using testing::HasSubstr;

std::string complaint(const ThrottleLimits& limits) {
  const auto checked = check_limits(limits);
  return checked ? "none" : checked.error().message;
}

TEST(LeakyBucket, HoldsATenthOfASecondWithoutAMaximum) {
  LeakyBucket bucket;
  bucket.set({.average = 100});
  unsigned went = 0;
  for (; bucket.wait() <= 0; ++went) bucket.fill(1);
  EXPECT_EQ(went, 11u);
  EXPECT_NEAR(bucket.wait(), 0.01, 1e-9);
  bucket.leak(0.5);
  EXPECT_EQ(bucket.wait(), 0);
}

TEST(LeakyBucket, OverTimeTheAverageGoesThrough) {
  LeakyBucket bucket;
  bucket.set({.average = 1000, .maximum = 2000});
  unsigned went = 0;
  for (unsigned millisecond = 0; millisecond < 10'000; ++millisecond) {
    bucket.leak(0.001);
    for (; bucket.wait() <= 0; ++went) bucket.fill(1);
  }
  // Ten seconds of the average, and the burst once.
  EXPECT_NEAR(went, 12'000, 10);
}

TEST(LeakyBucket, BurstsOfSeveralSecondsKeepToTheMaximum) {
  LeakyBucket bucket;
  bucket.set({.average = 100, .maximum = 1000, .length = 5});
  std::vector<unsigned> seconds(20);
  for (unsigned millisecond = 0; millisecond < 20'000; ++millisecond) {
    bucket.leak(0.001);
    for (; bucket.wait() <= 0; ++seconds[millisecond / 1000]) bucket.fill(1);
  }
  EXPECT_NEAR(seconds[0], 1100, 5);
  EXPECT_NEAR(seconds[2], 1000, 5);
  EXPECT_NEAR(seconds[19], 100, 5);
}

TEST(ThrottleLimits, ContradictionsAreRefused) {
  EXPECT_EQ(complaint({.iops_total = {.average = 5, .maximum = 10, .length = 3}}), "none");
  EXPECT_THAT(complaint({.iops_total = {.average = 5}, .iops_read = {.average = 1}}),
              HasSubstr("cannot be used at the same time"));
  EXPECT_THAT(complaint({.bps_read = {.average = 10, .maximum = 5}}),
              HasSubstr("bps_max/iops_max cannot be lower than bps/iops"));
  EXPECT_THAT(complaint({.bps_read = {.maximum = 5}}), HasSubstr("require corresponding"));
  EXPECT_THAT(complaint({.bps_read = {.average = 5, .length = 2}}),
              HasSubstr("burst length set without burst rate"));
  EXPECT_THAT(complaint({.iops_size = 4096}), HasSubstr("iops size requires an iops value"));
}

class ThrottleTest : public testing::Test {
 protected:
  std::unique_ptr<Throttle> throttle(std::shared_ptr<ThrottleGroup> group) {
    return std::make_unique<Throttle>(std::make_unique<virtio::MemoryDisk>(1 << 20),
                                      std::move(group));
  }
  /// Seconds that `count` requests take, all made at once.
  static double time(const std::vector<Throttle*>& disks, unsigned count, Request::Kind kind,
                     size_t bytes = 512) {
    std::vector<uint8_t> buffer(bytes);
    std::latch latch(static_cast<ptrdiff_t>(count));
    const auto start = Clock::now();
    for (unsigned i = 0; i < count; ++i)
      disks[i % disks.size()]->submit(
          {.kind = kind, .length = bytes, .buffers = {buffer_of(buffer)}, .done = [&](int) {
             latch.count_down();
           }});
    latch.wait();
    return std::chrono::duration<double>(Clock::now() - start).count();
  }
};

TEST_F(ThrottleTest, OperationsAreLimitedAndFlushesAreNot) {
  const auto disk = throttle(*ThrottleGroup::create({.iops_total = {.average = 200}}));
  // 21 go at once.
  const double seconds = time({disk.get()}, 101, Request::Kind::kRead);
  EXPECT_GT(seconds, 0.38);
  EXPECT_LT(seconds, 3);
  const auto start = Clock::now();
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(run(*disk, {.kind = Request::Kind::kFlush}), 0);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(2));
}

TEST_F(ThrottleTest, BytesAreLimitedInOneDirectionAlone) {
  const auto disk = throttle(*ThrottleGroup::create({.bps_write = {.average = 1 << 20}}));
  EXPECT_GT(time({disk.get()}, 8, Request::Kind::kWrite, 64 << 10), 0.3);
  EXPECT_LT(time({disk.get()}, 100, Request::Kind::kRead, 64 << 10), 0.3);
}

TEST_F(ThrottleTest, LargeRequestsCountAsSeveralOperations) {
  const auto disk =
      throttle(*ThrottleGroup::create({.iops_total = {.average = 100}, .iops_size = 4096}));
  // Four operations each: 40 in all, of which 10 go at once.
  EXPECT_GT(time({disk.get()}, 10, Request::Kind::kRead, 16 << 10), 0.2);
}

TEST_F(ThrottleTest, DisksOfAGroupShareItsLimits) {
  const auto group = *ThrottleGroup::create({.iops_total = {.average = 200}});
  const auto first = throttle(group), second = throttle(group);
  EXPECT_GT(time({first.get(), second.get()}, 101, Request::Kind::kWrite), 0.38);
}

TEST_F(ThrottleTest, DrainingLetsEverythingGoAtOnce) {
  const auto disk = throttle(*ThrottleGroup::create({.iops_total = {.average = 1}}));
  std::atomic<int> done = 0;
  for (int i = 0; i < 10; ++i)
    disk->submit({.kind = Request::Kind::kDiscard, .length = 512, .done = [&](int) { ++done; }});
  EXPECT_LT(done, 10);
  EXPECT_TRUE(disk->drain());
  EXPECT_EQ(done, 10);
}

TEST_F(ThrottleTest, NewLimitsReleaseWhatWaits) {
  const auto group = *ThrottleGroup::create({.iops_total = {.average = 1}});
  const auto disk = throttle(group);
  std::atomic<int> done = 0;
  for (int i = 0; i < 10; ++i)
    disk->submit({.kind = Request::Kind::kDiscard, .length = 512, .done = [&](int) { ++done; }});
  EXPECT_TRUE(group->set_limits({}));
  EXPECT_EQ(done, 10);
  EXPECT_FALSE(group->set_limits({.bps_total = {.maximum = 1}}));
}

TEST_F(ThrottleTest, NothingStaysBehindInAGroupThatIsLeft) {
  const auto slow = *ThrottleGroup::create({.iops_total = {.average = 1}});
  const auto disk = throttle(slow);
  const auto submit = [&](std::atomic<int>& done) {
    disk->submit({.kind = Request::Kind::kDiscard, .length = 512, .done = [&](int) { ++done; }});
  };
  // The request comes while the disk leaves the group: it must not wait for its turn there.
  for (int round = 0; round < 2000; ++round) {
    disk->join(slow);
    std::atomic<int> done = 0;
    submit(done);
    submit(done);
    std::latch both(2);
    std::jthread late([&] {
      both.arrive_and_wait();
      submit(done);
    });
    both.arrive_and_wait();
    disk->join(*ThrottleGroup::create({}));
    late.join();
    ASSERT_EQ(done, 3) << "round " << round;
  }
}

}  // namespace
}  // namespace limen::block
