// The pair of 8259A interrupt controllers of a PC.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "irq/interrupt_line.h"
#include "memory/io_space.h"

namespace limen::irq {

/// Two Intel 8259A (datasheet 231468) in cascade at ports 20H and A0H, with the edge/level control
/// registers of the ICH at 4D0H and 4D1H (ICH9 datasheet 316972, 13.4.9). MCS-80 mode is not built.
class Pic8259 final : public InterruptSink {
 public:
  /// `output_changed` is called, without a lock held, when output() may have changed.
  Pic8259(memory::IoSpace& ports, std::function<void()> output_changed);
  ~Pic8259() override;

  void reset();
  /// Lines 0 to 15; 2 is the cascade and is ignored.
  void set_line(unsigned line, bool level) override;
  [[nodiscard]] bool passes(unsigned line) override;
  void on_acknowledge(unsigned line, std::function<void()> acknowledged) override;

  /// Both chips, a line each, as QEMU's `info pic` has them.
  [[nodiscard]] std::string describe();
  /// The INT pin. Takes no lock.
  [[nodiscard]] bool output() const { return output_.load(std::memory_order_acquire); }
  /// The INTA cycle: the vector of the highest request, or the spurious one (IR7) if it went away.
  uint8_t acknowledge();

 private:
  class Ports;
  struct Chip {
    uint8_t irr = 0, isr = 0, imr = 0, elcr = 0, lines = 0;
    uint8_t vector_base = 0;
    uint8_t lowest = 7;      ///< The input with the lowest priority.
    uint8_t init_state = 0;  ///< The ICW that the data port expects; 0: initialized.
    bool single = false, needs_icw4 = false;
    bool auto_eoi = false, rotate_on_auto_eoi = false;
    bool special_mask = false, special_fully_nested = false;
    bool read_isr = false, poll = false;

    [[nodiscard]] int highest(uint8_t bits) const;
    [[nodiscard]] int request(bool master) const;
    void set_input(unsigned input, bool level);
    void take(unsigned input);
    void start_initialization(uint8_t icw1);
    void operation_command(uint8_t value);
    void write_data(uint8_t value);
  };

  uint8_t read(unsigned chip, bool data);
  void write(unsigned chip, bool data, uint8_t value);
  /// `taken`: the line, unless the interrupt is spurious.
  uint8_t acknowledge_locked(std::optional<unsigned>& taken);
  void announce(std::optional<unsigned> taken) const;  // mutex_ not held
  /// Recomputes the cascade and the output; true if the output changed.
  bool update();

  memory::IoSpace& ports_;
  const std::function<void()> output_changed_;
  std::mutex mutex_;
  std::array<Chip, 2> chips_;  // guarded by mutex_
  std::atomic<bool> output_ = false;
  std::array<std::vector<std::function<void()>>, 16> listeners_;  // fixed before processors run
  std::array<std::unique_ptr<Ports>, 3> handlers_;
};

}  // namespace limen::irq
