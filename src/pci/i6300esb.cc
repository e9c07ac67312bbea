#include "pci/i6300esb.h"

#include <chrono>
#include <utility>

namespace limen::pci {
namespace {

/// Configuration registers (§16.4).
constexpr uint16_t kConfiguration = 0x60, kLock = 0x68;
constexpr uint16_t kInterruptType = 3, kInterruptApic = 0, kFastClock = 1 << 2, kOutputOff = 1 << 5;
constexpr uint8_t kLocked = 1 << 0, kEnabled = 1 << 1, kFreeRunning = 1 << 2;

/// Registers in memory (§16.5).
enum Register : uint8_t { kPreload1 = 0x0, kPreload2 = 0x4, kInterruptStatus = 0x8, kReload = 0xC };
constexpr uint32_t kPreloadMask = 0xFFFFF;
constexpr uint32_t kReloadTimers = 1 << 8, kTimedOut = 1 << 9;
constexpr uint8_t kUnlock1 = 0x80, kUnlock2 = 0x86;

constexpr uint64_t kClockHz = 33'000'000;
constexpr unsigned kSlowShift = 15, kFastShift = 5;  ///< About 1 kHz and 1 MHz.
constexpr auto kPatience = std::chrono::milliseconds(100);

constexpr PciFunction::Identity kIdentity = {.vendor = 0x8086,
                                             .device = 0x25AB,
                                             .revision = 0,
                                             .class_code = 0x088000,
                                             .subsystem_vendor = 0x1AF4,
                                             .subsystem = 0x1100};

}  // namespace

I6300Esb::I6300Esb(std::string name, EventLoop& loop, Callbacks callbacks)
    : PciFunction(std::move(name), kIdentity),
      loop_(loop),
      callbacks_(std::move(callbacks)),
      registers_(*this),
      preload_{kPreloadMask, kPreloadMask},
      timer_(loop, [this] { elapsed(); }) {
  set_bar(kRegisterBar, {.kind = BarKind::kMemory32, .size = 16, .handler = &registers_});
  set_register_writable(kConfiguration, 2, kInterruptType | kFastClock | kOutputOff);
  set_register_writable(kLock, 1, kLocked | kEnabled | kFreeRunning);
  set_interrupt_pin(1);
}

I6300Esb::~I6300Esb() { timer_.cancel(); }

void I6300Esb::reset() {
  {
    const std::lock_guard lock(mutex_);
    timer_.disarm();
    preload_[0] = preload_[1] = kPreloadMask;
    unlock_step_ = stage_ = 0;
    interrupted_ = enabled_ = locked_ = free_running_ = false;
    configuration_ = 0;
    update_line();
  }
  deliver_intx();
  PciFunction::reset();
}

void I6300Esb::start(unsigned stage) {
  if (!enabled_) return;
  stage_ = stage;
  const unsigned shift = (configuration_ & kFastClock) != 0 ? kFastShift : kSlowShift;
  // The counter ends when it wraps below 0.
  const uint64_t ticks = (uint64_t{preload_[stage - 1]} + 1) << shift;
  timer_.arm(loop_.now() + std::chrono::nanoseconds(ticks * 1'000'000'000 / kClockHz));
}

void I6300Esb::update_line() {
  record_intx(interrupted_ && (configuration_ & kInterruptType) == kInterruptApic);
}

void I6300Esb::elapsed() {
  if (!callbacks_.machine_runs()) {
    // Nobody could have fed it. The stage begins anew once somebody can.
    const std::lock_guard lock(mutex_);
    if (stage_ != 0) timer_.arm(loop_.now() + kPatience);
    return;
  }
  bool expired = false;
  {
    const std::lock_guard lock(mutex_);
    if (!enabled_ || stage_ == 0) return;
    if (stage_ == 1) {
      interrupted_ = true;
      update_line();
      start(2);
    } else {
      stage_ = 0;
      expired = (configuration_ & kOutputOff) == 0;
      timed_out_ |= expired;
      if (free_running_) start(1);
    }
  }
  deliver_intx();
  if (expired) callbacks_.expired();
}

void I6300Esb::config_written(uint16_t offset, unsigned size) {
  const auto touches = [&](uint16_t at, unsigned bytes) {
    return offset < at + bytes && at < offset + size;
  };
  {
    const std::lock_guard lock(mutex_);
    if (touches(kConfiguration, 2))
      configuration_ = static_cast<uint16_t>(register_value(kConfiguration, 2));
    if (touches(kLock, 1)) {
      if (locked_) {
        // What was chosen stays (§16.4.2).
        set_register(kLock, 1,
                     kLocked | (enabled_ ? kEnabled : 0u) | (free_running_ ? kFreeRunning : 0u));
      } else {
        const auto value = static_cast<uint8_t>(register_value(kLock, 1));
        const bool before = std::exchange(enabled_, (value & kEnabled) != 0);
        locked_ = (value & kLocked) != 0;
        free_running_ = (value & kFreeRunning) != 0;
        if (enabled_ && !before) {
          start(1);
        } else if (!enabled_) {
          stage_ = 0;
          timer_.disarm();
        }
      }
    }
    update_line();
  }
  deliver_intx();
}

void I6300Esb::write(uint64_t offset, uint32_t value) {
  // A write to the other registers counts only right after the sequence (§16.5.4).
  const bool unlocked = unlock_step_ == 2;
  if (offset == kReload && value == kUnlock1) {
    unlock_step_ = 1;
    return;
  }
  if (offset == kReload && value == kUnlock2 && unlock_step_ == 1) {
    unlock_step_ = 2;
    return;
  }
  if (offset == kInterruptStatus) {
    if ((value & 1) != 0) interrupted_ = false;
    return update_line();
  }
  unlock_step_ = 0;
  if (!unlocked) return;
  if (offset == kPreload1 || offset == kPreload2) {
    preload_[offset == kPreload1 ? 0 : 1] = value & kPreloadMask;
  } else if (offset == kReload) {
    if ((value & kTimedOut) != 0) timed_out_ = false;
    if ((value & kReloadTimers) != 0) start(1);
  }
}

uint64_t I6300Esb::Registers::io_read(uint64_t offset, unsigned) {
  const std::lock_guard lock(watchdog.mutex_);
  switch (offset) {
    case kInterruptStatus:
      return watchdog.interrupted_ ? 1 : 0;
    case kReload:
      return watchdog.timed_out_ ? kTimedOut : 0;
    case kReload + 1:
      return watchdog.timed_out_ ? kTimedOut >> 8 : 0;
    default:
      return 0;
  }
}

void I6300Esb::Registers::io_write(uint64_t offset, unsigned, uint64_t value) {
  {
    const std::lock_guard lock(watchdog.mutex_);
    watchdog.write(offset, static_cast<uint32_t>(value));
  }
  watchdog.deliver_intx();
}

}  // namespace limen::pci
