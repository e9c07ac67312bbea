#include "device/hpet.h"

#include <algorithm>

namespace limen::device {
namespace {

// Registers (IA-PC HPET Specification 1.0a, 2.3).
constexpr uint64_t kCapabilities = 0x000, kConfiguration = 0x010, kStatus = 0x020,
                   kMainCounter = 0x0F0, kFirstTimer = 0x100, kTimerStride = 0x20;

// Timer configuration and capabilities (2.3.8).
constexpr uint64_t kLevel = 1u << 1, kInterruptEnable = 1u << 2, kPeriodic = 1u << 3,
                   kPeriodicCapable = 1u << 4, k64BitCapable = 1u << 5, kSetValue = 1u << 6,
                   k32BitMode = 1u << 8, kFsbEnable = 1u << 14, kFsbCapable = 1u << 15;
constexpr unsigned kRouteShift = 9;
constexpr uint64_t kRouteMask = 0x1Fu << kRouteShift;

constexpr uint64_t kNanosecondsPerTick = Hpet::kPeriodFemtoseconds / 1'000'000;
/// A guest that asks for faster interrupts than this gets them merged.
constexpr std::chrono::microseconds kShortestInterval{20};

constexpr uint64_t kShortestPeriod =
    std::chrono::nanoseconds(kShortestInterval).count() / kNanosecondsPerTick;

uint64_t width_mask(uint64_t config) {
  return (config & k32BitMode) != 0 ? 0xFFFFFFFF : ~uint64_t{0};
}

}  // namespace

Hpet::Hpet(memory::IoSpace& mmio, irq::InterruptSink& lines, irq::MsiSink* messages,
           EventLoop& loop, Config config)
    : mmio_(mmio),
      lines_(lines),
      messages_(messages),
      loop_(loop),
      config_(std::move(config)),
      timer_(loop, [this] { expired(); }) {
  Effects nothing;
  reset_registers(nothing);
  // Where timers may be routed to, and the lines of legacy replacement.
  for (unsigned line = 0; line < 32; ++line)
    if (line == 0 || line == 8 || (config_.routes >> line & 1) != 0)
      lines_.on_acknowledge(line, [this, line] { acknowledged(line); });
  mmio_.claim(config_.base, kSize, *this, "HPET");
}

Hpet::~Hpet() { mmio_.release(config_.base, *this); }

/// Runs `work` under the lock, then carries out what it asks for, in order.
template <typename Work>
void Hpet::change(Work work) {
  const std::lock_guard change_lock(change_mutex_);
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    work(effects);
    schedule();
  }
  if (effects.legacy_replaced && config_.legacy_replaced)
    config_.legacy_replaced(*effects.legacy_replaced);
  for (const auto& step : effects.steps) {
    if (step.kind == Effects::Step::Kind::kMessage)
      messages_->send_msi(step.message);
    else
      lines_.set_line(step.line, step.kind == Effects::Step::Kind::kHigh);
  }
}

void Hpet::reset() {
  change([this](Effects& effects) { reset_registers(effects); });
}

void Hpet::reset_registers(Effects& effects) {
  if (legacy()) effects.legacy_replaced = false;
  configuration_ = 0;
  status_ = 0;
  counter_base_ = 0;
  for (unsigned i = 0; i < kTimers; ++i) {
    update_level(i, effects);
    timers_[i] = Comparator{};
    timers_[i].comparator = ~uint64_t{0};
  }
}

uint64_t Hpet::counter() const {
  if (!enabled()) return counter_base_;
  const auto passed = std::chrono::nanoseconds(loop_.now() - started_).count();
  return counter_base_ + static_cast<uint64_t>(std::max<int64_t>(passed, 0)) / kNanosecondsPerTick;
}

uint64_t Hpet::io_read(uint64_t offset, unsigned size) {
  const uint64_t reg = offset & ~uint64_t{7};
  if (reg == kStatus) change([this](Effects& effects) { settle(effects); });
  const std::lock_guard lock(mutex_);
  const uint64_t value = read_register(reg);
  return size == 8 ? value : value >> (8 * (offset & 7));
}

uint64_t Hpet::read_register(uint64_t offset) const {
  switch (offset) {
    case kCapabilities:
      return kPeriodFemtoseconds << 32 | kBlockId;
    case kConfiguration:
      return configuration_;
    case kStatus:
      return status_;
    case kMainCounter:
      return counter();
    default:
      break;
  }
  const uint64_t index = (offset - kFirstTimer) / kTimerStride;
  if (offset < kFirstTimer || index >= kTimers) return 0;
  const auto& timer = timers_[index];
  switch (offset % kTimerStride) {
    case 0x00:
      return timer.config | kPeriodicCapable | k64BitCapable |
             (messages_ != nullptr ? kFsbCapable : 0) | uint64_t{config_.routes} << 32;
    case 0x08:
      return timer.comparator & width_mask(timer.config);
    case 0x10:
      return timer.message;
    default:
      return 0;
  }
}

void Hpet::io_write(uint64_t offset, unsigned size, uint64_t value) {
  const unsigned shift = static_cast<unsigned>(offset & 7) * 8;
  const uint64_t mask = size == 8 ? ~uint64_t{0} : ((uint64_t{1} << (size * 8)) - 1) << shift;
  change([&](Effects& effects) {
    settle(effects);
    write_register(offset & ~uint64_t{7}, value << shift, mask, effects);
  });
}

void Hpet::write_register(uint64_t offset, uint64_t value, uint64_t mask, Effects& effects) {
  switch (offset) {
    case kConfiguration:
      write_configuration((configuration_ & ~mask) | (value & mask), effects);
      return;
    case kStatus:  // written ones clear
      status_ &= ~(value & mask);
      for (unsigned i = 0; i < kTimers; ++i) update_level(i, effects);
      return;
    case kMainCounter:
      counter_base_ = (counter() & ~mask) | (value & mask);
      started_ = loop_.now();
      arm_all();
      return;
    default:
      break;
  }
  const uint64_t index = (offset - kFirstTimer) / kTimerStride;
  if (offset < kFirstTimer || index >= kTimers) return;
  auto& timer = timers_[index];
  switch (offset % kTimerStride) {
    case 0x00:
      write_timer_config(static_cast<unsigned>(index), value, mask, effects);
      break;
    case 0x08:
      write_comparator(timer, value, mask);
      break;
    case 0x10:
      timer.message = (timer.message & ~mask) | (value & mask);
      break;
    default:
      break;
  }
}

void Hpet::write_configuration(uint64_t value, Effects& effects) {
  const bool was_enabled = enabled();
  const bool was_legacy = legacy();
  const uint64_t now = counter();
  configuration_ = value & 3;
  if (was_enabled != enabled()) {
    counter_base_ = now;
    started_ = loop_.now();
    arm_all();
  }
  if (was_legacy != legacy()) effects.legacy_replaced = legacy();
  for (unsigned i = 0; i < kTimers; ++i) update_level(i, effects);
}

void Hpet::write_timer_config(unsigned index, uint64_t value, uint64_t mask, Effects& effects) {
  auto& timer = timers_[index];
  uint64_t writable = kLevel | kInterruptEnable | kPeriodic | k32BitMode;
  if (messages_ != nullptr) writable |= kFsbEnable;
  // A route that the timer does not have is not taken: software reads back whether it was.
  const uint64_t wanted = (value & kRouteMask) >> kRouteShift;
  if ((config_.routes >> wanted & 1) != 0) writable |= kRouteMask;
  writable &= mask;
  const uint64_t old = timer.config;
  timer.config = (old & ~writable) | (value & writable);
  timer.set_value = (value & mask & kSetValue) != 0;
  if ((timer.config & k32BitMode) != 0) {
    timer.comparator &= 0xFFFFFFFF;
    timer.period &= 0xFFFFFFFF;
  }
  if ((timer.config & kLevel) == 0) status_ &= ~(uint64_t{1} << index);
  timer.lost.clear();
  update_level(index, effects);
  if (((old ^ timer.config) & (kInterruptEnable | kPeriodic | k32BitMode)) != 0) arm(timer);
}

void Hpet::write_comparator(Comparator& timer, uint64_t value, uint64_t mask) {
  // 2.3.9.2.2: a periodic timer takes a write as its period, unless VAL_SET says that it is where
  // the first match lies.
  if ((timer.config & kPeriodic) != 0 && !timer.set_value) {
    timer.period = ((timer.period & ~mask) | (value & mask)) & width_mask(timer.config);
    return;
  }
  timer.comparator = ((timer.comparator & ~mask) | (value & mask)) & width_mask(timer.config);
  timer.set_value = false;
  arm(timer);
}

void Hpet::arm(Comparator& timer) {
  timer.lost.clear();
  timer.armed = enabled();
  if (!timer.armed) return;
  timer.armed_at = counter();
  timer.distance = (timer.comparator - timer.armed_at) & width_mask(timer.config);
}

void Hpet::arm_all() {
  for (auto& timer : timers_) arm(timer);
}

unsigned Hpet::route(unsigned index) const {
  if (legacy() && index == 0) return 0;
  if (legacy() && index == 1) return 8;
  return static_cast<unsigned>((timers_[index].config & kRouteMask) >> kRouteShift);
}

/// Fires what matched up to now.
void Hpet::settle(Effects& effects) {
  if (!enabled()) return;
  const uint64_t now = counter();
  for (unsigned i = 0; i < kTimers; ++i) {
    auto& timer = timers_[i];
    if (!timer.armed || now - timer.armed_at < timer.distance) continue;
    const uint64_t match = timer.armed_at + timer.distance;
    uint64_t periods = 1;
    timer.armed_at = match;
    if ((timer.config & kPeriodic) != 0 && timer.period != 0) {
      const uint64_t missed = (now - match) / timer.period;
      periods += missed;
      timer.armed_at += missed * timer.period;
      timer.distance = timer.period;
      timer.comparator =
          (timer.comparator + (missed + 1) * timer.period) & width_mask(timer.config);
    } else if ((timer.config & k32BitMode) != 0) {
      timer.distance = uint64_t{1} << 32;  // matches again when the low half has wrapped
    } else {
      timer.armed = false;
    }
    fire(i, periods, effects);
  }
}

bool Hpet::drives_edges(const Comparator& timer) {
  return (timer.config & (kLevel | kFsbEnable | kInterruptEnable)) == kInterruptEnable;
}

/// One interrupt for the `periods` that have ended; what is lost by that is made up for later.
void Hpet::fire(unsigned index, uint64_t periods, Effects& effects) {
  auto& timer = timers_[index];
  // Interrupts that are merged anyway are not lost.
  const bool counts =
      drives_edges(timer) && (timer.config & kPeriodic) != 0 && timer.period >= kShortestPeriod;
  if (counts)
    timer.lost.raised(periods, lines_.passes(route(index)));
  else
    timer.lost.clear();
  if ((timer.config & kLevel) != 0) {
    status_ |= uint64_t{1} << index;
    update_level(index, effects);
    return;
  }
  if ((timer.config & kInterruptEnable) == 0) return;
  using Kind = Effects::Step::Kind;
  if ((timer.config & kFsbEnable) != 0) {
    effects.steps.push_back({Kind::kMessage,
                             0,
                             {.address = timer.message >> 32,
                              .data = static_cast<uint32_t>(timer.message & 0xFFFFFFFF)}});
  } else {
    effects.steps.push_back({Kind::kHigh, route(index), {}});
    effects.steps.push_back({Kind::kLow, route(index), {}});
  }
}

/// Brings the line of a level-triggered timer to what its status bit says.
void Hpet::update_level(unsigned index, Effects& effects) {
  auto& timer = timers_[index];
  const bool assert_line = (status_ >> index & 1) != 0 && (timer.config & kLevel) != 0 &&
                           (timer.config & kInterruptEnable) != 0;
  const int wanted = assert_line ? static_cast<int>(route(index)) : -1;
  if (wanted == timer.asserted_line) return;
  using Kind = Effects::Step::Kind;
  if (timer.asserted_line >= 0)
    effects.steps.push_back({Kind::kLow, static_cast<unsigned>(timer.asserted_line), {}});
  if (wanted >= 0) effects.steps.push_back({Kind::kHigh, static_cast<unsigned>(wanted), {}});
  timer.asserted_line = wanted;
}

void Hpet::schedule() {
  uint64_t least = ~uint64_t{0};
  if (enabled()) {
    const uint64_t now = counter();
    for (const auto& timer : timers_) {
      if (!timer.armed || (timer.config & kInterruptEnable) == 0) continue;
      const uint64_t passed = now - timer.armed_at;
      least = std::min(least, timer.distance - std::min(passed, timer.distance));
    }
  }
  constexpr uint64_t kNever = uint64_t{1} << 55;  // ticks; years away, and safe to multiply
  if (least >= kNever) {
    timer_.disarm();
    return;
  }
  const auto at = loop_.now() + std::chrono::nanoseconds((least + 1) * kNanosecondsPerTick);
  timer_.arm(std::max(at, last_expired_ + kShortestInterval));
}

void Hpet::acknowledged(unsigned line) {
  change([this, line](Effects& effects) {
    for (unsigned i = 0; i < kTimers; ++i) {
      auto& timer = timers_[i];
      if (!enabled() || !drives_edges(timer) || route(i) != line || !timer.lost.acknowledged())
        continue;
      effects.steps.push_back({Effects::Step::Kind::kHigh, line, {}});
      effects.steps.push_back({Effects::Step::Kind::kLow, line, {}});
    }
  });
}

void Hpet::expired() {
  change([this](Effects& effects) {
    last_expired_ = loop_.now();
    settle(effects);
  });
}

}  // namespace limen::device
