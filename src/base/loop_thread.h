// A thread that runs an event loop of its own.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "base/event_loop.h"
#include "base/result.h"

namespace limen {

class LoopThread {
 public:
  /// `name`: what the host shows of the thread, at most 15 bytes of it.
  static Result<std::unique_ptr<LoopThread>> create(const std::string& name);
  /// Ends the loop; work that was posted and did not begin is dropped.
  ~LoopThread();
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  [[nodiscard]] EventLoop& loop() { return *loop_; }
  /// Whether the caller runs on this thread.
  [[nodiscard]] bool is_current() const { return std::this_thread::get_id() == thread_.get_id(); }
  /// Runs `work` on the thread and waits for it; at once when this is the thread.
  void run_there(const std::function<void()>& work);

 private:
  LoopThread() = default;

  std::unique_ptr<EventLoop> loop_;
  std::thread thread_;
};

}  // namespace limen
