// A device's interrupt output whose level several threads decide.
#pragma once

#include <atomic>
#include <mutex>

#include "irq/interrupt_line.h"

namespace limen::irq {

/// Keeps levels in order though lines are driven outside the device's lock: want() is called with
/// the lock held, publish() after it was released, and the line always ends at the level wanted
/// last.
class LineOutput {
 public:
  explicit LineOutput(InterruptLine line) : line_(line) {}

  void want(bool level) { wanted_.store(level, std::memory_order_relaxed); }
  [[nodiscard]] bool wanted() const { return wanted_.load(std::memory_order_relaxed); }

  void publish() {
    const std::lock_guard lock(mutex_);
    const bool level = wanted();
    if (published_ == level) return;
    published_ = level;
    line_.set(level);
  }

 private:
  InterruptLine line_;
  std::atomic<bool> wanted_ = false;
  std::mutex mutex_;        // orders calls of line_.set()
  bool published_ = false;  // guarded by mutex_
};

}  // namespace limen::irq
