// The real-time clock and its battery-backed memory.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>

#include "base/event_loop.h"
#include "device/device.h"
#include "device/lost_ticks.h"
#include "irq/line_output.h"
#include "memory/io_space.h"

namespace limen::device {

/// Motorola MC146818 at ports 70H and 71H, with 128 bytes (ICH9 datasheet 316972, 13.6). Registers
/// C's interrupts: periodic, alarm, update-ended. Byte 32H holds the century in BCD.
class Rtc final : public Device, public memory::IoHandler {
 public:
  static constexpr uint16_t kBase = 0x70;

  struct Config {
    /// RAM below and from 4 GiB, for firmware that asks CMOS (bytes 15H-18H, 30H-31H, 34H-35H,
    /// 5BH-5DH).
    uint64_t memory_below_4g = 0;
    uint64_t memory_above_4g = 0;
    unsigned processors = 1;  ///< Byte 5FH.
    /// From where to boot, first to third: 1 floppy, 2 disk, 3 CD, 4 network (bytes 38H and 3DH).
    std::array<uint8_t, 3> boot_order = {};
    /// The date and time that the clock shows; empty: UTC of the host.
    std::function<std::chrono::system_clock::time_point()> wall_clock = {};
    /// The guest set date or time: seconds that it is now ahead of the wall clock. Called with the
    /// clock's lock held.
    std::function<void(int64_t)> time_set = {};
    /// The alarm rang and is enabled. On any thread.
    std::function<void()> alarm = {};
    /// Periodic interrupts that the guest was late for come later, one after each that it takes.
    bool catch_up = false;
  };

  Rtc(memory::IoSpace& ports, irq::InterruptLine line, EventLoop& loop, Config config);
  ~Rtc() override;

  /// Keeps time and memory, as the battery does.
  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;
  /// The index, which only the data port makes use of.
  [[nodiscard]] std::span<const memory::LateWrites> late_writes() const override;

  /// Config::boot_order from now on.
  void set_boot_order(const std::array<uint8_t, 3>& order);
  /// Tells firmware that the machine comes back from S3: the shutdown status (byte 0FH) is FEH, as
  /// in QEMU. Firmware clears it.
  void set_resumed();

  /// The HPET's legacy replacement route takes interrupt 8 away (IA-PC HPET Specification 1.0a,
  /// 2.3.5).
  void set_interrupt_enabled(bool enabled);

 private:
  // mutex_ held.
  void store_boot_order(const std::array<uint8_t, 3>& order);
  uint8_t read_data();
  void write_data(uint8_t value);
  [[nodiscard]] std::chrono::nanoseconds guest_time() const;  // since 1970, were the clock not held
  [[nodiscard]] bool update_in_progress() const;
  [[nodiscard]] uint8_t encode(unsigned value) const;
  [[nodiscard]] unsigned decode(uint8_t value) const;
  [[nodiscard]] uint8_t time_register(uint8_t index) const;
  void set_time_register(uint8_t index, uint8_t value);
  /// The memory with the time registers as they read now.
  [[nodiscard]] std::array<uint8_t, 128> all_registers() const;
  [[nodiscard]] std::chrono::nanoseconds time_from_registers(
      const std::array<uint8_t, 128>& registers) const;
  [[nodiscard]] bool alarm_matches(std::chrono::seconds at) const;
  void settle();
  void tell_time_set() const;
  void raise_owed();
  void schedule();
  void update_line();
  [[nodiscard]] std::chrono::nanoseconds period() const;

  // mutex_ not held.
  void publish();
  void expired();

  memory::IoSpace& ports_;
  EventLoop& loop_;
  irq::LineOutput line_;
  const Config config_;

  std::mutex mutex_;
  uint8_t index_ = 0;  // guest-controlled
  bool interrupt_enabled_ = true;
  std::array<uint8_t, 128> cmos_{};
  std::chrono::nanoseconds offset_{0};  // guest time less wall clock
  std::chrono::seconds settled_{0};     // updates and alarms are accounted for up to here
  Clock::time_point next_period_;
  LostTicks lost_;     // of the periodic interrupt
  bool owed_ = false;  // one of them follows once the line has fallen
  bool rang_ = false;  // Config::alarm is to be called
  Timer timer_;
};

}  // namespace limen::device
