// The main loop: file descriptors, timers and work posted from other threads,
// all handled on the one thread that calls run().
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

struct epoll_event;

namespace limen {

using Clock = std::chrono::steady_clock;

class EventLoop {
 public:
  /// Where now() comes from: the host's monotonic clock, or (for tests) a clock that stands still
  /// but for advance() and leap().
  enum class Time { kMonotonic, kManual };

  static Result<std::unique_ptr<EventLoop>> create(Time time = Time::kMonotonic);
  ~EventLoop();

  /// The time by which timers expire. Thread-safe.
  [[nodiscard]] Clock::time_point now() const {
    if (!manual_) return Clock::now();
    return Clock::time_point(Clock::duration(manual_now_.load(std::memory_order_acquire)));
  }
  /// Moves a manual clock on by `step` and calls the timers that expire on the way, each at its own
  /// time, on this thread.
  void advance(Clock::duration step);
  /// The same all at once, as a process finds the clock that stood still itself: timers that
  /// expired on the way are called with the clock where it is now.
  void leap(Clock::duration step);

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
  /// Handles what is ready now, without waiting.
  void poll();

 private:
  friend class Timer;

  EventLoop() = default;
  void wake();
  /// Waits for at most `limit` (empty: for ever) and handles what came.
  void handle(std::optional<Clock::duration> limit);
  int wait(::epoll_event* events, int capacity, std::optional<Clock::duration> limit);
  void run_due_timers();
  /// The time until the next deadline, noted as what run() sleeps for.
  std::optional<Clock::duration> prepare_to_sleep();

  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd timer_fd_;  // only where the kernel lacks epoll_pwait2
  bool manual_ = false;
  std::atomic<Clock::rep> manual_now_ = 0;
  std::mutex mutex_;
  struct Watch {
    uint32_t serial = 0;  // tells a file descriptor from an earlier one of the same number
    std::shared_ptr<std::function<void(uint32_t)>> ready;
  };
  std::map<int, Watch> watches_;                              // guarded by mutex_
  uint32_t last_serial_ = 0;                                  // guarded by mutex_
  std::vector<std::function<void()>> posted_;                 // guarded by mutex_
  std::multimap<Clock::time_point, class Timer*> deadlines_;  // guarded by mutex_
  Timer* running_ = nullptr;        // whose callback is under way; guarded by mutex_
  std::thread::id running_thread_;  // guarded by mutex_
  std::condition_variable running_done_;
  /// Until when run() sleeps; the clock's minimum while it does not. Guarded by mutex_.
  Clock::time_point sleeps_until_ = Clock::time_point::min();
  std::atomic<bool> stopped_ = false;
};

/// A one-shot timer whose callback runs on the loop's thread. arm() and cancel() are thread-safe.
/// After cancel() or the destructor returned the callback does not run and is not running, unless
/// it was the callback itself that called. Call neither while holding a lock that the callback
/// takes: use disarm() there.
class Timer {
 public:
  Timer(EventLoop& loop, std::function<void()> expired);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void arm(Clock::time_point deadline);
  /// As cancel(), without waiting for a callback that has begun.
  void disarm();
  void cancel();

 private:
  friend class EventLoop;
  EventLoop& loop_;
  std::function<void()> expired_;
  bool armed_ = false;  // guarded by loop_.mutex_
  std::multimap<Clock::time_point, Timer*>::iterator position_;
};

}  // namespace limen
