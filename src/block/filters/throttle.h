// Limits of operations and bytes in a second: QEMU's throttling.* (docs/throttle.txt describes it).
//
// Each limit is a bucket that leaks at the limit's average. A request goes on while the bucket is
// not full and then fills it by what it costs. Without a maximum a bucket holds a tenth of a
// second's average; with one it holds what `length` seconds at the maximum are, and a second
// bucket, which leaks at the maximum, keeps the maximum from being passed meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/loop_thread.h"
#include "block/filters/filter.h"
#include "block/filters/throttle_limits.h"

namespace limen::block {

/// A leaky bucket; times are the caller's.
class LeakyBucket {
 public:
  void set(const RateLimit& limit) { limit_ = limit; }
  /// What `seconds` let out.
  void leak(double seconds);
  void fill(double units);
  /// Seconds until the next request may go on.
  [[nodiscard]] double wait() const;

 private:
  RateLimit limit_;
  double level_ = 0;
  double burst_level_ = 0;
};

/// Limits that one or more disks share (throttling.group).
class ThrottleGroup {
 public:
  static Result<std::shared_ptr<ThrottleGroup>> create(const ThrottleLimits& limits);
  ~ThrottleGroup();

  /// Fails for limits that contradict each other.
  Result<> set_limits(const ThrottleLimits& limits);
  [[nodiscard]] ThrottleLimits limits() const;

 private:
  friend class Throttle;
  struct Waiting {
    class Throttle* owner;
    Request request;
    uint64_t bytes;
  };
  enum Direction : size_t { kReads = 0, kWrites = 1 };

  ThrottleGroup() = default;
  /// Calls `go` for what may go on now, and arms the timer for what may not.
  void advance();
  double wait_locked(Direction direction);
  void account_locked(Direction direction, uint64_t bytes);

  std::atomic<bool> limited_ = false;  ///< There is a limit at all.
  mutable std::mutex mutex_;
  std::unique_ptr<LoopThread> thread_;  // made once there is a limit; guarded by mutex_
  std::unique_ptr<Timer> timer_;        // guarded by mutex_
  ThrottleLimits limits_;               // guarded by mutex_, as is all below
  std::array<LeakyBucket, 6> buckets_;  ///< Bytes, then operations: total, read, write.
  Clock::time_point leaked_ = Clock::now();
  std::array<std::deque<Waiting>, 2> waiting_;
};

class Throttle final : public Filter {
 public:
  Throttle(std::unique_ptr<BlockDevice> below, std::shared_ptr<ThrottleGroup> group)
      : Filter(std::move(below)), group_(group.get()) {
    groups_.push_back(std::move(group));
  }
  ~Throttle() override;

  void submit(Request request) override;
  /// Lets everything go on at once.
  Result<> drain() override;
  void give_up_held(bool on) override;

  [[nodiscard]] ThrottleGroup& group() { return *group_; }
  /// Requests that wait go on; those to come are limited by `group`. On one thread.
  void join(std::shared_ptr<ThrottleGroup> group);

 private:
  friend class ThrottleGroup;
  void go(Request request) { below().submit(std::move(request)); }
  void release();

  std::atomic<ThrottleGroup*> group_;
  /// All that it was in: a request may still be on its way into the one that was left.
  std::mutex groups_mutex_;
  std::vector<std::shared_ptr<ThrottleGroup>> groups_;  // guarded by groups_mutex_
  std::atomic<unsigned> unlimited_ = 0;  ///< While above zero, requests pass.
};

}  // namespace limen::block
