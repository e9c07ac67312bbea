// The ISA bridge of the PIIX3, 8086:7000 at 0:1.0: interrupt routing (Intel 82371SB datasheet
// 290550).
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "pci/pci_function.h"

namespace limen::pci {

/// Attach it to the bus at "0x1.0x0" and give it to PciBus::connect_interrupts(): it takes INTx on
/// line device * 4 + pin, joins them into PIRQ A to D, and drives the ISA interrupt (0 to 15) that
/// registers 60h to 63h route each to.
class Piix3Isa final : public PciFunction, public irq::InterruptSink {
 public:
  static constexpr unsigned kPirqs = 4;

  /// `interrupts` outlives the bridge. `routes`: where the PIRQs go at power-on; firmware that
  /// wants it otherwise writes the registers.
  explicit Piix3Isa(irq::InterruptSink& interrupts,
                    const std::array<uint8_t, kPirqs>& routes = {0x80, 0x80, 0x80, 0x80});

  void set_line(unsigned line, bool level) override;
  void reset() override;

  /// PIRQ of a pin: 0 (A) to 3 (D). The boards turn them from slot to slot, so that cards share as
  /// little as they can.
  static constexpr unsigned pirq(unsigned device, unsigned pin) { return (device + pin + 3) % 4; }

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  void update_routes();
  void record_lines_locked();

  LinePublisher interrupts_;
  std::mutex mutex_;
  std::array<uint8_t, 32> pins_{};        // guarded by mutex_; bit n: pin n of the device is high
  std::array<uint8_t, kPirqs> routes_{};  // guarded by mutex_; copies of the registers
};

}  // namespace limen::pci
