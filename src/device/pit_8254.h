// The 8254 interval timer and port 61H.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/event_loop.h"
#include "device/device.h"
#include "device/lost_ticks.h"
#include "device/polled_wait.h"
#include "irq/interrupt_line.h"
#include "memory/io_space.h"

namespace limen::device {

/// Intel 8254 (datasheet 231164) with three counters at 1.193182 MHz, computed from the clock when
/// they are read. Counter 0 drives interrupt 0; counter 2 has its gate and output in port 61H (NMI
/// status and control, ICH9 datasheet 316972, 13.7.1). Periods of counter 0 that the guest could
/// not take in time are made up for, one by one (LostTicks).
class Pit8254 final : public Device, public memory::IoHandler {
 public:
  static constexpr uint64_t kFrequency = 1'193'182;
  static constexpr uint16_t kBase = 0x40;
  static constexpr uint16_t kSystemControl = 0x61;

  Pit8254(memory::IoSpace& ports, irq::InterruptLine line, EventLoop& loop);
  ~Pit8254() override;

  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

  /// The HPET's legacy replacement route takes interrupt 0 away from counter 0 (IA-PC HPET
  /// Specification 1.0a, 2.3.5).
  void set_interrupt_enabled(bool enabled);

 private:
  class SystemControlPort;

  struct Counter {
    uint8_t mode = 0;
    uint8_t access = 3;  ///< 1: low byte, 2: high byte, 3: both.
    bool bcd = false;
    bool gate = true;
    bool null_count = true;    ///< The count written is not yet in the counting element.
    bool running = false;      ///< A count was loaded since the mode was set.
    bool triggered = true;     ///< Modes 1 and 5: the gate rose since.
    uint32_t count = 0x10000;  ///< In use; 1 to 65536 (10000 in BCD).
    uint32_t next_count = 0;   ///< Takes effect at the end of the period; 0: none.
    Clock::time_point start;   ///< When `count` was loaded, less time with the gate low.
    Clock::time_point paused;  ///< When the gate fell.
    PolledWait wait;           ///< Mode 0.
    uint8_t write_latch = 0;
    bool write_high_next = false;
    bool read_high_next = false;
    bool count_latched = false;
    bool status_latched = false;
    bool latched_high_next = false;
    uint16_t latched_count = 0;
    uint8_t latched_status = 0;
  };

  // mutex_ held.
  uint8_t read_counter(unsigned index);
  void write_counter(unsigned index, uint8_t value);
  void write_control(uint8_t value);
  void load(Counter& counter, uint16_t value);
  void set_gate(Counter& counter, bool gate);
  [[nodiscard]] bool poll_output(Counter& counter, Clock::time_point now) const;
  void roll_over(Counter& counter, Clock::time_point now) const;
  [[nodiscard]] uint64_t ticks(const Counter& counter, Clock::time_point now) const;
  [[nodiscard]] uint16_t count_now(Counter& counter, Clock::time_point now) const;
  [[nodiscard]] bool output(Counter& counter, Clock::time_point now) const;
  void latch_count(Counter& counter);
  void latch_status(Counter& counter);
  void schedule();
  void count_edge(Clock::time_point now);
  [[nodiscard]] uint64_t next_edge(const Counter& counter, Clock::time_point now) const;
  uint8_t read_system_control();
  void write_system_control(uint8_t value);
  // mutex_ not held.
  void expired();
  void acknowledged();
  void drive(bool rose);

  memory::IoSpace& ports_;
  EventLoop& loop_;
  irq::InterruptLine line_;
  std::mutex line_mutex_;    // orders calls of line_.set()
  bool line_level_ = false;  // guarded by line_mutex_

  std::mutex mutex_;
  std::array<Counter, 3> counters_;
  uint8_t system_control_ = 0;  // bits 0 to 3 of port 61H
  bool interrupt_enabled_ = true;
  Clock::time_point edge_ = Clock::time_point::max();  // when counter 0's OUT rises next
  Clock::time_point last_edge_ = Clock::time_point::min();
  LostTicks lost_;
  std::unique_ptr<SystemControlPort> system_control_port_;
  Timer timer_;
};

}  // namespace limen::device
