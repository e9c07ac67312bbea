// The high-precision event timer.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "base/event_loop.h"
#include "device/device.h"
#include "device/lost_ticks.h"
#include "irq/interrupt_line.h"
#include "irq/msi.h"
#include "memory/io_space.h"

namespace limen::device {

/// IA-PC HPET Specification 1.0a: three 64-bit timers, all of them periodic-capable, one 64-bit
/// main counter of 100 MHz, legacy replacement routing. Message delivery (FSB) is offered when a
/// MsiSink is given.
class Hpet final : public Device, public memory::IoHandler {
 public:
  static constexpr uint64_t kDefaultBase = 0xFED00000;
  static constexpr uint64_t kSize = 0x400;
  static constexpr unsigned kTimers = 3;
  static constexpr uint64_t kPeriodFemtoseconds = 10'000'000;
  /// The low half of the capabilities register: what ACPI's HPET table calls the event timer block
  /// ID.
  static constexpr uint32_t kBlockId = 0x8086A201;

  struct Config {
    uint64_t base = kDefaultBase;
    /// I/O APIC inputs that every timer may be routed to.
    uint32_t routes = 0x00F00004;
    /// Legacy replacement was switched: interrupts 0 and 8 belong to the HPET, or again to the
    /// 8254 and the RTC.
    std::function<void(bool replaced)> legacy_replaced = {};
  };

  /// `lines` takes board lines 0 to 23.
  Hpet(memory::IoSpace& mmio, irq::InterruptSink& lines, irq::MsiSink* messages, EventLoop& loop,
       Config config);
  ~Hpet() override;

  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  struct Comparator {
    uint64_t config = 0;      ///< The writable bits. Guest-controlled.
    uint64_t comparator = 0;  ///< Guest-controlled.
    uint64_t period = 0;      ///< Guest-controlled.
    uint64_t message = 0;     ///< FSB data (low half) and address. Guest-controlled.
    bool set_value = false;  ///< The next write to the comparator of a periodic timer is no period.
    // The next match is `distance` ticks after the main counter was at `armed_at`.
    bool armed = false;
    uint64_t armed_at = 0;
    uint64_t distance = 0;
    int asserted_line = -1;  ///< What this timer holds up (level mode); -1: nothing.
    LostTicks lost;          ///< Of a periodic timer on an edge-triggered line.
  };
  /// What is done once mutex_ is released.
  struct Effects {
    struct Step {
      enum class Kind { kLow, kHigh, kMessage } kind = Kind::kLow;
      unsigned line = 0;
      irq::MsiMessage message;
    };
    std::vector<Step> steps;
    std::optional<bool> legacy_replaced;
  };

  // mutex_ held.
  [[nodiscard]] bool enabled() const { return (configuration_ & 1) != 0; }
  [[nodiscard]] bool legacy() const { return (configuration_ & 2) != 0; }
  [[nodiscard]] uint64_t counter() const;
  [[nodiscard]] uint64_t read_register(uint64_t offset) const;
  void write_register(uint64_t offset, uint64_t value, uint64_t mask, Effects& effects);
  void write_configuration(uint64_t value, Effects& effects);
  void write_timer_config(unsigned index, uint64_t value, uint64_t mask, Effects& effects);
  void write_comparator(Comparator& timer, uint64_t value, uint64_t mask);
  void arm(Comparator& timer);
  void arm_all();
  [[nodiscard]] unsigned route(unsigned index) const;
  void settle(Effects& effects);
  void fire(unsigned index, uint64_t periods, Effects& effects);
  [[nodiscard]] static bool drives_edges(const Comparator& timer);
  void update_level(unsigned index, Effects& effects);
  void schedule();
  void reset_registers(Effects& effects);
  // mutex_ not held.
  template <typename Work>
  void change(Work work);
  void expired();
  void acknowledged(unsigned line);

  memory::IoSpace& mmio_;
  irq::InterruptSink& lines_;
  irq::MsiSink* const messages_;
  EventLoop& loop_;
  const Config config_;

  std::mutex change_mutex_;  // taken before mutex_; orders what is done outside it
  std::mutex mutex_;
  uint64_t configuration_ = 0;  // guest-controlled
  uint64_t status_ = 0;
  uint64_t counter_base_ = 0;  // counter value at started_, or now if stopped
  Clock::time_point started_;
  std::array<Comparator, kTimers> timers_;
  Clock::time_point last_expired_ = Clock::time_point::min();
  Timer timer_;
};

}  // namespace limen::device
