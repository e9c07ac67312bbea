#include "block/worker_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <latch>
#include <mutex>
#include <set>
#include <thread>

namespace limen::block {
namespace {

TEST(WorkerPool, RunsAsManyAtOnceAsItHasThreadsAndNoMore) {
  constexpr unsigned kThreads = 3;
  WorkerPool pool(kThreads);
  // Nobody passes unless all three run at the same time.
  std::latch together(kThreads);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  for (unsigned i = 0; i < kThreads; ++i) pool.submit([&] { together.arrive_and_wait(); });
  pool.wait_idle();
  for (int i = 0; i < 100; ++i)
    pool.submit([&] {
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
  pool.wait_idle();
  EXPECT_LE(seen.size(), kThreads);
}

TEST(WorkerPool, WaitIdleReturnsOnlyWhenAllIsDone) {
  WorkerPool pool(4);
  std::atomic<int> done = 0;
  for (int round = 1; round <= 20; ++round) {
    for (int i = 0; i < 50; ++i)
      pool.submit([&done] {
        std::this_thread::yield();
        ++done;
      });
    pool.wait_idle();
    EXPECT_EQ(done, 50 * round);
  }
}

TEST(WorkerPool, WorkMaySubmitMoreWork) {
  std::atomic<int> done = 0;
  {
    WorkerPool pool(1);
    pool.submit([&] { pool.submit([&] { ++done; }); });
    pool.wait_idle();
    EXPECT_EQ(done, 1);
    pool.submit([&] { ++done; });
  }
  EXPECT_EQ(done, 2);
}

TEST(WorkerPool, LeavesSignalsToOtherThreads) {
  WorkerPool pool(1);
  bool interrupt_blocked = false, fault_blocked = true;
  pool.submit([&] {
    sigset_t mask;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
    interrupt_blocked = ::sigismember(&mask, SIGTERM) == 1;
    fault_blocked = ::sigismember(&mask, SIGSEGV) == 1;
  });
  pool.wait_idle();
  EXPECT_TRUE(interrupt_blocked);
  EXPECT_FALSE(fault_blocked);
}

}  // namespace
}  // namespace limen::block
