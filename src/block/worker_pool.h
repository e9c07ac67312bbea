// Threads that run blocking system calls, and a count of what is still under way.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace limen::block {

class WorkerPool {
 public:
  /// Threads start when first needed, up to `threads` of them.
  explicit WorkerPool(unsigned threads);
  /// Runs what was submitted to its end.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Runs `work` on some thread; thread-safe, in no particular order.
  void submit(std::function<void()> work);
  /// Waits until nothing is queued or running.
  void wait_idle();
  [[nodiscard]] bool idle();

 private:
  void start_thread();  // mutex_ is held
  void serve();

  const unsigned limit_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  std::condition_variable idle_;
  std::deque<std::function<void()>> queue_;  // guarded by mutex_
  std::vector<std::thread> threads_;         // guarded by mutex_
  unsigned waiting_ = 0;                     // guarded by mutex_
  unsigned running_ = 0;                     // guarded by mutex_
  bool ending_ = false;                      // guarded by mutex_
  bool refusal_said_ = false;                // guarded by mutex_
};

}  // namespace limen::block
