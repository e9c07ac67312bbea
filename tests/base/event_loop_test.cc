#include "base/event_loop.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

namespace limen {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

TEST(EventLoop, ManualTimersExpireInOrderAtTheirOwnTime) {
  auto loop = EventLoop::create(EventLoop::Time::kManual).value();
  const auto start = loop->now();
  std::vector<std::pair<int, Clock::duration>> log;
  Timer late(*loop, [&] { log.emplace_back(2, loop->now() - start); });
  Timer early(*loop, [&] { log.emplace_back(1, loop->now() - start); });
  late.arm(start + milliseconds(7));
  early.arm(start + milliseconds(3));
  loop->advance(milliseconds(2));
  EXPECT_TRUE(log.empty());
  loop->advance(milliseconds(10));
  ASSERT_EQ(log.size(), 2u);
  EXPECT_EQ(log[0], (std::pair<int, Clock::duration>(1, milliseconds(3))));
  EXPECT_EQ(log[1], (std::pair<int, Clock::duration>(2, milliseconds(7))));
  EXPECT_EQ(loop->now() - start, milliseconds(12));
}

TEST(EventLoop, TimerArmedAgainMovesAndCancelledDoesNotFire) {
  auto loop = EventLoop::create(EventLoop::Time::kManual).value();
  int fired = 0;
  Timer timer(*loop, [&] { ++fired; });
  timer.arm(loop->now() + milliseconds(1));
  timer.arm(loop->now() + milliseconds(5));
  loop->advance(milliseconds(2));
  EXPECT_EQ(fired, 0);
  loop->advance(milliseconds(3));
  EXPECT_EQ(fired, 1);
  timer.arm(loop->now() + milliseconds(1));
  timer.cancel();
  loop->advance(milliseconds(2));
  EXPECT_EQ(fired, 1);
}

TEST(EventLoop, TimerMayArmItselfFromItsCallback) {
  auto loop = EventLoop::create(EventLoop::Time::kManual).value();
  int fired = 0;
  Timer timer(*loop, [&] {
    if (++fired < 5) timer.arm(loop->now() + milliseconds(1));
  });
  timer.arm(loop->now() + milliseconds(1));
  loop->advance(milliseconds(100));
  EXPECT_EQ(fired, 5);
}

TEST(EventLoop, TimerDestroyedInItsCallbackIsSafe) {
  auto loop = EventLoop::create(EventLoop::Time::kManual).value();
  std::unique_ptr<Timer> timer;
  bool fired = false;
  timer = std::make_unique<Timer>(*loop, [&] {
    fired = true;
    timer.reset();
  });
  timer->arm(loop->now() + milliseconds(1));
  loop->advance(milliseconds(1));
  EXPECT_TRUE(fired);
  EXPECT_EQ(timer, nullptr);
}

TEST(EventLoop, SleepsNoLongerThanAnEarlierTimerArmedFromAnotherThread) {
  auto loop = EventLoop::create().value();
  Timer far(*loop, [] {});
  far.arm(loop->now() + std::chrono::hours(1));
  Timer near(*loop, [&] { loop->stop(); });
  std::thread other([&] { near.arm(loop->now() + microseconds(200)); });
  loop->run();  // an hour if arm() did not wake it
  other.join();
}

TEST(EventLoop, KeepsDeadlinesBelowAMillisecond) {
  auto loop = EventLoop::create().value();
  // The best of several: a busy host may delay any one of them.
  auto best = Clock::duration::max();
  int rounds = 0;
  Clock::time_point deadline;
  Timer timer(*loop, [&] {
    best = std::min(best, loop->now() - deadline);
    if (++rounds == 20) return loop->stop();
    deadline = loop->now() + microseconds(300);
    timer.arm(deadline);
  });
  deadline = loop->now() + microseconds(300);
  timer.arm(deadline);
  loop->run();
  EXPECT_GE(best, Clock::duration::zero());
  EXPECT_LT(best, microseconds(600));
}

TEST(EventLoop, CancelWaitsForACallbackThatRunsOnTheLoopsThread) {
  for (int round = 0; round < 200; ++round) {
    auto loop = EventLoop::create().value();
    std::atomic<bool> alive = true;
    std::atomic<bool> misused = false;
    auto timer = std::make_unique<Timer>(*loop, [&] {
      for (int i = 0; i < 100; ++i)
        if (!alive.load()) misused = true;
    });
    std::thread runner([&] { loop->run(); });
    timer->arm(loop->now());
    timer.reset();
    alive = false;
    loop->stop();
    runner.join();
    ASSERT_FALSE(misused);
  }
}

TEST(EventLoop, PostedWorkRunsOnTheLoopsThread) {
  auto loop = EventLoop::create().value();
  std::thread::id where;
  std::thread other([&] {
    loop->post([&] {
      where = std::this_thread::get_id();
      loop->stop();
    });
  });
  loop->run();
  other.join();
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(EventLoop, EventOfAnEarlierFileDescriptorOfTheSameNumberIsNotDelivered) {
  auto loop = EventLoop::create().value();
  const int first = ::eventfd(1, EFD_NONBLOCK);
  const int second = ::eventfd(1, EFD_NONBLOCK);
  int wrong = 0;
  int replacement = -1;
  bool replaced = false;
  // Both are ready in one batch; whichever callback runs first replaces the other's descriptor.
  const auto replace = [&](int fd) {
    if (std::exchange(replaced, true)) return;
    loop->unwatch(fd);
    ::close(fd);
    replacement = ::eventfd(0, EFD_NONBLOCK);
    ASSERT_EQ(replacement, fd);
    ASSERT_TRUE(loop->watch(replacement, EPOLLIN, [&](uint32_t) { ++wrong; }));
  };
  ASSERT_TRUE(loop->watch(first, EPOLLIN, [&](uint32_t) { replace(second); }));
  ASSERT_TRUE(loop->watch(second, EPOLLIN, [&](uint32_t) { replace(first); }));
  loop->poll();
  EXPECT_TRUE(replaced);
  EXPECT_EQ(wrong, 0);
  loop->unwatch(first);
  loop->unwatch(second);
  ::close(first);
  ::close(second);
}

TEST(EventLoop, WatchingAClosedFileDescriptorFailsWithItsNumber) {
  auto loop = EventLoop::create().value();
  const auto watched = loop->watch(987, EPOLLIN, [](uint32_t) {});
  ASSERT_FALSE(watched);
  EXPECT_NE(watched.error().message.find("987"), std::string::npos);
}

}  // namespace
}  // namespace limen
