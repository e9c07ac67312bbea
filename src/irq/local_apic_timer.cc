// The local APIC's timer (SDM Vol. 3A 11.5.4). One-shot and periodic counts run on the host's TSC,
// so that a guest that writes its own does not disturb them; the deadline is in guest TSC.
#include <x86intrin.h>

#include <algorithm>

#include "irq/local_apic.h"
#include "irq/local_apic_registers.h"

namespace limen::irq {

using namespace apic;  // NOLINT(google-build-using-namespace): the names of this device's registers

namespace {

/// value * multiplier / divisor, rounded up, held to 63 bits.
uint64_t scale_up(uint64_t value, uint64_t multiplier, uint64_t divisor) {
  const auto product = static_cast<unsigned __int128>(value) * multiplier + (divisor - 1);
  const auto quotient = product / divisor;
  constexpr uint64_t kMost = ~uint64_t{0} >> 1;
  return quotient > kMost ? kMost : static_cast<uint64_t>(quotient);
}

}  // namespace

uint64_t LocalApic::host_tsc() const { return config_.host_tsc ? config_.host_tsc() : __rdtsc(); }

unsigned LocalApic::timer_mode() const { return (lvt_[kLvtTimer] >> kTimerModeShift) & 3; }

/// Figure 11-10: 000 divides by 2 ... 110 by 128, 111 by 1.
unsigned LocalApic::divide_shift() const { return (((divide_ & 3) | (divide_ & 8) >> 1) + 1) & 7; }

uint64_t LocalApic::count_to_tsc(uint32_t count) const {
  return std::max<uint64_t>(
      scale_up(uint64_t{count} << divide_shift(), config_.tsc_hz, config_.timer_hz), 1);
}

void LocalApic::start_count(uint32_t count) {
  if (timer_mode() == kTimerDeadline) return;  // 11.5.4.1: writes are ignored
  initial_count_ = count;
  count_deadline_ = count == 0 ? 0 : host_tsc() + count_to_tsc(count);
  publish_timer();
}

uint32_t LocalApic::current_count() const {
  if (timer_mode() == kTimerDeadline || count_deadline_ == 0) return 0;
  const uint64_t now = host_tsc();
  uint64_t left = count_deadline_ - now;
  if (static_cast<int64_t>(left) <= 0) {
    if (timer_mode() != kTimerPeriodic) return 0;
    const uint64_t period = count_to_tsc(initial_count_);
    left = period - (now - count_deadline_) % period;
  }
  const uint64_t count = scale_up(left, config_.timer_hz, config_.tsc_hz << divide_shift());
  return static_cast<uint32_t>(std::min<uint64_t>(count, initial_count_));
}

void LocalApic::set_divide(uint32_t divide) {
  const uint32_t left = current_count();
  divide_ = divide;
  if (left != 0) count_deadline_ = host_tsc() + count_to_tsc(left);
  publish_timer();
}

void LocalApic::timer_mode_changed(uint32_t old_lvt) {
  const unsigned old_mode = (old_lvt >> kTimerModeShift) & 3;
  const bool was_deadline = old_mode == kTimerDeadline;
  const bool is_deadline = timer_mode() == kTimerDeadline;
  if (was_deadline != is_deadline) {
    // 11.5.4.1: a transition to or from TSC-deadline mode disarms the timer.
    initial_count_ = 0;
    count_deadline_ = 0;
    tsc_deadline_ = 0;
  }
  publish_timer();
}

void LocalApic::publish_timer() {
  uint64_t next = ~uint64_t{0};
  if (timer_mode() == kTimerDeadline) {
    if (tsc_deadline_ != 0) next = tsc_deadline_;
  } else if (count_deadline_ != 0) {
    next = count_deadline_ + tsc_offset_;
  }
  next_timer_.store(next, std::memory_order_release);
}

void LocalApic::timer_due(uint64_t guest_tsc) {
  Actions actions;
  {
    const std::lock_guard lock(mutex_);
    if (timer_mode() == kTimerDeadline) {
      if (tsc_deadline_ == 0 || guest_tsc < tsc_deadline_) return;
      tsc_deadline_ = 0;
    } else {
      const uint64_t now = guest_tsc - tsc_offset_;
      if (count_deadline_ == 0 || static_cast<int64_t>(now - count_deadline_) < 0) return;
      if (timer_mode() == kTimerPeriodic && initial_count_ != 0) {
        // Periods that passed unseen are one interrupt: the IRR has one bit.
        const uint64_t period = count_to_tsc(initial_count_);
        count_deadline_ += ((now - count_deadline_) / period + 1) * period;
      } else {
        count_deadline_ = 0;
      }
    }
    publish_timer();
    raise_lvt(kLvtTimer);
    update(actions);
  }
  finish(actions);
}

void LocalApic::set_tsc_offset(uint64_t offset) {
  const std::lock_guard lock(mutex_);
  tsc_offset_ = offset;
  publish_timer();
}

}  // namespace limen::irq
