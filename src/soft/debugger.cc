#include "soft/debugger.h"

#include <algorithm>
#include <utility>

namespace limen::soft {

void Debugger::set(const vcpu::DebugRequest& request) {
  std::vector<uint64_t> wanted = request.breakpoints;
  wanted.insert(wanted.end(), request.hardware_breakpoints.begin(),
                request.hardware_breakpoints.end());
  std::ranges::sort(wanted);
  const auto repeated = std::ranges::unique(wanted);
  wanted.erase(repeated.begin(), repeated.end());
  if (!std::ranges::includes(breakpoints_, wanted)) ++additions_;
  breakpoints_ = std::move(wanted);
  single_step_ = request.single_step;
  holds_interrupts_ = request.single_step && request.hold_interrupts;
  active_ = single_step_ || has_breakpoints() || !request.watchpoints.empty();
}

bool Debugger::stops_at(uint64_t linear) const {
  return std::ranges::binary_search(breakpoints_, linear);
}

bool Debugger::stops_at_offset(uint64_t linear) const {
  constexpr uint64_t kOffset = 0xFFF;
  constexpr uint64_t kUserHalf = uint64_t{1} << 47;
  return std::ranges::any_of(breakpoints_, [&](uint64_t address) {
    return address < kUserHalf && ((address ^ linear) & kOffset) == 0;
  });
}

}  // namespace limen::soft
