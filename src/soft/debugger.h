// What a debugger asked of one processor, in the form in which the run loop and the translator ask.
// Watchpoints are the MMU's.
#pragma once

#include <cstdint>
#include <vector>

#include "vcpu/debug.h"

namespace limen::soft {

class Debugger {
 public:
  void set(const vcpu::DebugRequest& request);

  /// Whether the run loop must ask before it runs anything.
  [[nodiscard]] bool active() const { return active_; }
  [[nodiscard]] bool single_step() const { return single_step_; }
  /// Neither interrupts nor NMIs are delivered.
  [[nodiscard]] bool holds_interrupts() const { return holds_interrupts_; }

  [[nodiscard]] bool has_breakpoints() const { return !breakpoints_.empty(); }
  [[nodiscard]] bool stops_at(uint64_t linear) const;
  /// Whether translated code must leave the instruction at `linear` to the run loop. User code is
  /// translated once for all places at which it is mapped, which differ by whole pages.
  [[nodiscard]] bool may_stop_at(uint64_t linear, bool user) const {
    return has_breakpoints() && (user ? stops_at_offset(linear) : stops_at(linear));
  }
  /// Counts up when there are breakpoints that were not there before.
  [[nodiscard]] uint64_t additions() const { return additions_; }

 private:
  [[nodiscard]] bool stops_at_offset(uint64_t linear) const;

  bool active_ = false;
  bool single_step_ = false;
  bool holds_interrupts_ = false;
  std::vector<uint64_t> breakpoints_;  // sorted
  uint64_t additions_ = 0;
};

}  // namespace limen::soft
