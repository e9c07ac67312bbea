// Where a device's queues are served: on the vCPU thread that notifies, or on an I/O thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "base/loop_thread.h"

namespace limen::virtio {

/// Also counts what is under way, so that a reset can wait for it.
class QueueService {
 public:
  /// `thread`: null for the notifying thread; it outlives this. `serve` pops and starts requests.
  QueueService(unsigned queues, LoopThread* thread, std::function<void(unsigned index)> serve)
      : thread_(thread), serve_(std::move(serve)), posted_(new std::atomic<bool>[queues] {}) {}

  /// Serves queue `index`, here or there. Several notifications may be served as one.
  void notified(unsigned index) {
    if (thread_ == nullptr || thread_->is_current()) {
      begin();  // first, so that a reset waits for what is popped
      serve_(index);
      return end();
    }
    // Served from the queue's first entry on after this is cleared.
    if (posted_[index].exchange(true)) return;
    begin();
    thread_->loop().post([this, index] {
      posted_[index] = false;
      serve_(index);
      end();
    });
  }

  /// That of the I/O thread; `main` where there is none.
  [[nodiscard]] EventLoop* loop_or(EventLoop& main) const {
    return thread_ != nullptr ? &thread_->loop() : &main;
  }

  void begin() {
    const std::lock_guard lock(mutex_);
    ++under_way_;
  }
  void end() {
    const std::lock_guard lock(mutex_);
    if (--under_way_ == 0) idle_.notify_all();
  }
  void wait_idle() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return under_way_ == 0; });
  }

 private:
  LoopThread* const thread_;
  const std::function<void(unsigned)> serve_;
  const std::unique_ptr<std::atomic<bool>[]> posted_;
  std::mutex mutex_;
  std::condition_variable idle_;
  uint64_t under_way_ = 0;  // guarded by mutex_: notifications and requests not yet finished
};

}  // namespace limen::virtio
