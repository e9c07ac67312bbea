// A guest's wait for an output, by polling, on a thread that does not always run.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "base/event_loop.h"

namespace limen::device {

/// A guest measures its TSC so: it starts counter 2 of the 8254 in mode 0, reads the TSC, polls OUT
/// and reads the TSC after each poll that finds it low. A pause between two readings it notices,
/// and asks another clock. Two it cannot notice, and finds a TSC that is too slow, so that its
/// clock runs too fast, three times on a busy host:
///  - between the start and the first reading: the time until the first poll does not count;
///  - between the last reading and the poll that finds OUT high: such a poll finds it low once
///  more.
class PolledWait {
 public:
  /// The count begins, or goes on.
  void begin(Clock::time_point now) {
    *this = {};
    unseen_since_ = now;
  }
  /// The count was read: what uses it as a stopwatch wants all the time.
  void count_read() { unseen_since_.reset(); }

  /// At a poll: how much later the count began.
  Clock::duration delay(Clock::time_point now) {
    const auto delay = unseen_since_ ? now - *unseen_since_ : Clock::duration::zero();
    unseen_since_.reset();
    return delay;
  }
  /// What a poll finds where the output is `high`.
  bool poll(bool high, Clock::time_point now) {
    const auto last = std::exchange(last_poll_, now);
    if (high) last_poll_.reset();
    if (!last) return high;
    const auto gap = now - *last;
    if (high) return gap / 2 <= shortest_gap_;
    shortest_gap_ = std::min(shortest_gap_, gap);
    return false;
  }

 private:
  std::optional<Clock::time_point> unseen_since_, last_poll_;
  Clock::duration shortest_gap_ = Clock::duration::max();
};

}  // namespace limen::device
