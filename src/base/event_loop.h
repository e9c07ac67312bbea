// The main loop: file descriptors, timers and work posted from other threads,
// all handled on the one thread that calls run().
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen {

using Clock = std::chrono::steady_clock;

class EventLoop {
 public:
  static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();

  /// Calls `ready(epoll events)` on the loop's thread whenever `fd` is ready for `events`
  /// (EPOLLIN, EPOLLOUT, ...). Thread-safe. The caller keeps `fd` open until unwatch().
  Result<> watch(int fd, uint32_t events, std::function<void(uint32_t)> ready);
  Result<> change(int fd, uint32_t events);
  void unwatch(int fd);

  /// Runs `work` on the loop's thread soon. Thread-safe.
  void post(std::function<void()> work);

  /// Handles events until stop() is called. stop() is thread-safe and sticky.
  void run();
  void stop();

 private:
  friend class Timer;

  EventLoop() = default;
  void wake();
  void run_due_timers();
  int milliseconds_until_next_deadline();

  UniqueFd epoll_;
  UniqueFd wake_;
  std::mutex mutex_;
  std::map<int, std::shared_ptr<std::function<void(uint32_t)>>> watches_;  // guarded by mutex_
  std::vector<std::function<void()>> posted_;                               // guarded by mutex_
  std::multimap<Clock::time_point, class Timer*> deadlines_;                // guarded by mutex_
  std::atomic<bool> stopped_ = false;
};

/// A one-shot timer whose callback runs on the loop's thread. arm() and cancel() are thread-safe;
/// after cancel() returns on the loop's thread the callback will not run. Destroy on the loop's
/// thread or after run() has returned.
class Timer {
 public:
  Timer(EventLoop& loop, std::function<void()> expired);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void arm(Clock::time_point deadline);
  void cancel();

 private:
  friend class EventLoop;
  EventLoop& loop_;
  std::function<void()> expired_;
  bool armed_ = false;  // guarded by loop_.mutex_
  std::multimap<Clock::time_point, Timer*>::iterator position_;
};

}  // namespace limen
