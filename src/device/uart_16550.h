// A 16550A serial port.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

#include "base/event_loop.h"
#include "device/character_backend.h"
#include "device/device.h"
#include "irq/interrupt_line.h"
#include "irq/line_output.h"
#include "memory/io_space.h"

namespace limen::device {

/// National Semiconductor PC16550D (datasheet TL/C/8652, section 8). Bytes leave at once: the
/// transmitter is always empty, so the THRE interrupt comes back immediately after each write.
/// Received bytes arrive as fast as the FIFO has room. Line speed and format are kept and ignored.
class Uart16550 final : public Device, public memory::IoHandler {
 public:
  static constexpr uint64_t kPorts = 8;

  /// Claims ports `base` to `base` + 7.
  Uart16550(memory::IoSpace& ports, uint16_t base, irq::InterruptLine line,
            CharacterBackend& backend, EventLoop& loop);
  ~Uart16550() override;

  void reset() override;
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  static constexpr size_t kFifoSize = 16;
  /// What a register write leaves to do once the lock is released.
  struct Effects {
    bool transmit = false;
    uint8_t byte = 0;
    bool made_room = false;
  };

  uint8_t read(unsigned reg, bool& took_input);  // mutex_ held, as for all below
  void write(unsigned reg, uint8_t value, Effects& effects);
  [[nodiscard]] bool fifo_enabled() const { return (fcr_ & 1) != 0; }
  [[nodiscard]] size_t capacity() const { return fifo_enabled() ? kFifoSize : 1; }
  [[nodiscard]] size_t trigger_level() const;
  [[nodiscard]] uint8_t interrupt_identification() const;
  [[nodiscard]] uint8_t modem_status_lines() const;
  void update_modem_status(uint8_t before);
  void push(uint8_t byte);
  void update_line();
  void reset_registers();

  size_t can_receive();
  void receive(std::span<const uint8_t> bytes);
  void receive_break();
  void arm_character_timeout();
  void character_timeout();

  memory::IoSpace& ports_;
  const uint16_t base_;
  CharacterBackend& backend_;
  EventLoop& loop_;
  irq::LineOutput line_;

  std::mutex mutex_;
  uint8_t ier_ = 0;  // guest-controlled, as are the next six
  uint8_t fcr_ = 0;
  uint8_t lcr_ = 0;
  uint8_t mcr_ = 0;
  uint8_t scratch_ = 0;
  uint16_t divisor_ = 0;
  uint8_t lsr_errors_ = 0;  // overrun, break
  uint8_t msr_delta_ = 0;   // low nibble of the MSR
  bool thre_pending_ = false;
  bool timeout_pending_ = false;
  std::array<uint8_t, kFifoSize> fifo_{};
  size_t fifo_head_ = 0;
  size_t fifo_count_ = 0;
  Timer timeout_;
};

}  // namespace limen::device
