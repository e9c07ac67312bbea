// A device's interrupt output whose level several threads decide.
#pragma once

#include <atomic>
#include <mutex>

#include "irq/interrupt_line.h"

namespace limen::irq {

/// Keeps levels in order though lines are driven outside the device's lock: want() is called with
/// the lock held, publish() after it was released, and the line always ends at the level wanted
/// last. A fall shows even if another thread wants a rise before it was published: who listens
/// for edges would wait forever.
class LineOutput {
 public:
  explicit LineOutput(InterruptLine line) : line_(line) {}

  void want(bool level) {
    if (!level && wanted()) fell_.store(true, std::memory_order_relaxed);
    wanted_.store(level, std::memory_order_relaxed);
  }
  [[nodiscard]] bool wanted() const { return wanted_.load(std::memory_order_relaxed); }

  void publish() {
    const std::lock_guard lock(mutex_);
    if (fell_.exchange(false, std::memory_order_relaxed)) set(false);
    set(wanted());
  }

 private:
  void set(bool level) {
    if (published_ == level) return;
    published_ = level;
    line_.set(level);
  }

  InterruptLine line_;
  std::atomic<bool> wanted_ = false;
  std::atomic<bool> fell_ = false;  // since the last publish()
  std::mutex mutex_;                // orders calls of line_.set()
  bool published_ = false;          // guarded by mutex_
};

}  // namespace limen::irq
