// ACPI power management: fixed registers, PM timer, general-purpose events.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "base/event_loop.h"
#include "device/device.h"
#include "irq/interrupt_line.h"
#include "irq/line_output.h"
#include "memory/io_space.h"

namespace limen::device {

/// The fixed hardware of ACPI 6.5 §4.8 as the ICH9 lays it out (datasheet 316972, 13.8): PM1a
/// status and enable at `base`, PM1a control at +4, the PM timer at +8, the GPE0 block at +20H
/// (status) and +28H (enable), SMI control and status at +30H and +34H; commands at port B2H.
class AcpiPm final : public Device, public memory::IoHandler {
 public:
  static constexpr uint64_t kTimerFrequency = 3'579'545;
  static constexpr uint64_t kSize = 0x80;
  static constexpr uint64_t kPm1Event = 0x00;
  static constexpr uint64_t kPm1Control = 0x04;
  static constexpr uint64_t kTimer = 0x08;
  static constexpr uint64_t kGpe0 = 0x20;
  static constexpr uint64_t kGpe0Length = 16;  ///< Status and enable, 8 bytes each.

  struct Config {
    uint16_t base = 0x600;  ///< 0: a bridge claims the ports and passes them on.
    uint16_t smi_command_port = 0xB2;
    uint8_t acpi_enable = 2;          ///< The FADT's ACPI_ENABLE.
    uint8_t acpi_disable = 3;         ///< The FADT's ACPI_DISABLE.
    bool acpi_mode_at_reset = false;  ///< SCI_EN set from the start, when no firmware sets it.
    uint8_t soft_off_type = 0;        ///< SLP_TYP that the DSDT's \_S5 gives.
    /// The same of \_S3 and \_S4; nothing: there is no such state.
    std::optional<uint8_t> suspend_type = {}, hibernate_type = {};
    bool timer_is_32_bit = true;  ///< The FADT's TMR_VAL_EXT.
  };
  struct Callbacks {
    std::function<void()> power_off;       ///< The guest entered S5.
    std::function<void()> suspend = {};    ///< It entered S3.
    std::function<void()> hibernate = {};  ///< It entered S4, its memory being on a disk.
    std::function<void()> wake_up = {};    ///< Something ends its S3. On any thread.
  };

  AcpiPm(memory::IoSpace& ports, irq::InterruptLine sci, EventLoop& loop, Config config,
         Callbacks callbacks);
  ~AcpiPm() override;

  void reset() override;
  /// As reset(), but status and enable bits stay: they are in the resume well (ICH9 datasheet,
  /// 13.8.3).
  void resume() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

  /// The power button was pressed (ACPI 6.5 §4.8.2.2.1). Thread-safe.
  void press_power_button();
  /// Raises general-purpose event `index` (0 to 63). Thread-safe.
  void raise_event(unsigned index);
  /// The real-time clock's alarm rang (ACPI 6.5 §4.8.2.4). Thread-safe.
  void ring_alarm();
  /// Ends S3 as the power button does; nothing happens otherwise. Thread-safe.
  void wake_up();

  /// The guest can enter S3.
  [[nodiscard]] bool can_suspend() const { return config_.suspend_type.has_value(); }
  /// The guest entered S3, and something has ended that since. Thread-safe.
  [[nodiscard]] bool woken();

 private:
  class CommandPort;
  enum : uint16_t {
    kTimerStatus = 1 << 0,
    kGlobalStatus = 1 << 5,
    kPowerButton = 1 << 8,
    kSleepButton = 1 << 9,
    kRtcStatus = 1 << 10,
    kWakeStatus = 1 << 15,
  };

  enum class Sleep : uint8_t { kNone, kSuspend, kHibernate, kSoftOff };

  // mutex_ held.
  uint8_t read_byte(uint64_t offset, uint32_t timer) const;
  void write_byte(uint64_t offset, uint8_t value, Sleep& sleep);
  [[nodiscard]] Sleep sleep_state(unsigned type) const;
  void enter(Sleep sleep);
  [[nodiscard]] uint64_t timer_ticks() const;
  void settle_timer();
  void schedule();
  void update_line();
  void reset_core_registers();
  void reset_registers();

  void expired();
  /// `record` notes an event, with the lock held, and says whether it ends S3.
  template <typename Record>
  void happen(const Record& record);
  void smi_command(uint8_t value);

  memory::IoSpace& ports_;
  EventLoop& loop_;
  irq::LineOutput sci_;
  const Config config_;
  const Callbacks callbacks_;
  std::unique_ptr<CommandPort> command_port_;

  std::mutex mutex_;
  Clock::time_point timer_start_;
  uint64_t timer_settled_ = 0;  // ticks up to which TMR_STS is accounted for
  uint16_t pm1_status_ = 0;
  uint16_t pm1_enable_ = 0;   // guest-controlled
  uint16_t pm1_control_ = 0;  // guest-controlled
  std::array<uint8_t, 8> gpe_status_{};
  std::array<uint8_t, 8> gpe_enable_{};  // guest-controlled
  bool suspended_ = false;
  uint32_t smi_enable_ = 0;  // guest-controlled
  uint8_t apm_control_ = 0;  // guest-controlled
  uint8_t apm_status_ = 0;   // guest-controlled
  Timer timer_;
};

}  // namespace limen::device
