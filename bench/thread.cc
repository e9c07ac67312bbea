// Threads: their making, the futex below them, and two that share the work or fight over a lock.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>
#include <thread>

#include "measure.h"

namespace bench {

namespace {

double create_thread(const Request& request) {
  stay_on_one_processor();
  return best_whole_time(request, [](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) std::thread([] {}).join();
  });
}

// A word that a thread sleeps on while it has a value.
class Turn {
 public:
  uint32_t wait_past(uint32_t old) {
    while (value_.load() == old) {
      syscall(SYS_futex, &value_, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
    }
    return value_.load();
  }
  void set(uint32_t value) {
    value_.store(value);
    syscall(SYS_futex, &value_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }

 private:
  std::atomic<uint32_t> value_{0};
};

constexpr uint32_t kEnd = UINT32_MAX;

double futex_ping_pong(const Request& request) {
  stay_on_one_processor();
  Turn turn;
  Turn reply;
  std::thread other([&] {
    for (uint32_t round = 1; turn.wait_past(round - 1) != kEnd; ++round) reply.set(round);
  });
  uint32_t round = 0;
  const double result = best_whole_time(request, [&](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      ++round;
      turn.set(round);
      reply.wait_past(round - 1);
    }
  });
  turn.set(kEnd);
  other.join();
  return result;
}

constexpr int kThreads = 2;

// Runs `work(thread, count)` in two threads, half of the operations in each.
double in_threads(const Request& request, const std::function<void(int, uint64_t)>& work) {
  return best_whole_time(request, [&](uint64_t count) {
    std::array<std::thread, kThreads> threads;
    for (int i = 0; i < kThreads; ++i)
      threads[static_cast<size_t>(i)] = std::thread(work, i, count / kThreads + 1);
    for (std::thread& thread : threads) thread.join();
  });
}

// Threads that meet only at the end: a hash of a block of each one's own, over and over.
double parallel(const Request& request) {
  constexpr size_t kWords = 4096;
  static std::array<std::array<uint64_t, kWords>, kThreads> blocks;
  return in_threads(request, [](int thread, uint64_t count) {
    auto& block = blocks[static_cast<size_t>(thread)];
    uint64_t hash = 14695981039346656037U;
    for (uint64_t i = 0; i < count; ++i) {
      for (uint64_t& word : block) {
        hash = (hash ^ word) * 1099511628211U;
        word += hash >> 32;
      }
    }
    keep(hash);
  });
}

// Threads that need the same lock for each small piece of work.
double locks(const Request& request) {
  struct Account {
    std::mutex lock;
    std::array<uint64_t, 8> balances{};
  };
  static Account account;
  return in_threads(request, [](int thread, uint64_t count) {
    uint64_t value = static_cast<uint64_t>(thread) + 1;
    for (uint64_t i = 0; i < count; ++i) {
      for (int step = 0; step < 16; ++step) value = value * 6364136223846793005U + 1;
      const std::lock_guard guard(account.lock);
      account.balances[value >> 61] += value & 1;
    }
  });
}

}  // namespace

std::vector<Row> thread_rows() {
  return {{"thread-create", "thread", create_thread},
          {"futex-ping-pong", "there and back", futex_ping_pong},
          {"parallel", "pass over 4096 words", parallel},
          {"locks", "locked section", locks}};
}

}  // namespace bench
