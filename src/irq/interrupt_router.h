// The board's interrupt lines: what a device raises reaches both the 8259 pair and the I/O APIC.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "irq/interrupt_line.h"

namespace limen::irq {

/// Lines 0 to 15 are the ISA interrupts, 16 to 23 those that only the I/O APIC has. ISA interrupt 0
/// stands at the I/O APIC's input 2, as the MADT's interrupt source override says (ACPI 6.5
/// §5.2.12.5). Devices that share a line each connect() to it: it is asserted while any of them
/// asserts it.
class InterruptRouter final : public InterruptSink {
 public:
  static constexpr unsigned kLines = 24;

  /// Either may be null.
  InterruptRouter(InterruptSink* pic, InterruptSink* io_apic);

  /// A wire of its own to line `line` (0 to 23) of the board. Before processors run.
  [[nodiscard]] InterruptLine connect(unsigned line);
  /// How often each line was asserted since the machine was made.
  [[nodiscard]] std::vector<uint64_t> counts();
  /// Every wire released, as devices do when they are reset.
  void reset();

  /// `input` is a line of the board, or what connect() gave out.
  void set_line(unsigned input, bool level) override;
  [[nodiscard]] bool passes(unsigned input) override;
  void on_acknowledge(unsigned input, std::function<void()> acknowledged) override;

 private:
  void drive(unsigned line);  // mutex_ held

  InterruptSink* const pic_;
  InterruptSink* const io_apic_;
  std::mutex mutex_;
  struct Input {
    unsigned line = 0;
    bool level = false;
  };
  std::vector<Input> inputs_;
  std::vector<uint64_t> counts_;
  std::vector<unsigned> asserted_;  // per line: how many inputs assert it
};

}  // namespace limen::irq
