// Ticks of a periodic timer that the guest was not there to take.
#pragma once

#include <algorithm>
#include <cstdint>

namespace limen::device {

/// A host that is busy may let neither the timer's thread nor the processor's run for several
/// periods. An edge that finds the one before it not yet taken is lost, and so are periods that end
/// unseen. What was lost is raised later, each time after the processor has taken the edge before:
/// never two without an acknowledgement in between. Not thread-safe.
class LostTicks {
 public:
  /// What is lost beyond that stays lost: a machine that stood still for long is not flooded.
  static constexpr uint64_t kMost = 100;

  /// An edge is raised for the `periods` (at least one) that have ended since the last. `passes`:
  /// it reaches a processor; a masked line loses nothing.
  void raised(uint64_t periods, bool passes) {
    if (!passes) {
      clear();
      return;
    }
    lost_ = std::min(lost_ + std::min(periods, kMost) - 1 + (waiting_ ? 1 : 0), kMost);
    waiting_ = true;
  }
  /// The processor has taken an edge of the line. True: raise another.
  [[nodiscard]] bool acknowledged() {
    waiting_ = waiting_ && lost_ != 0;
    if (waiting_) --lost_;
    return waiting_;
  }
  void clear() {
    lost_ = 0;
    waiting_ = false;
  }

 private:
  uint64_t lost_ = 0;
  bool waiting_ = false;  ///< The last edge was not taken yet.
};

}  // namespace limen::device
