// The LPC bridge of the ICH9, 8086:2918 at 0:1f.0: ACPI power-management base and interrupt routing
// (Intel I/O Controller Hub 9 datasheet 316972, §13).
#pragma once

#include <array>
#include <cstdint>
#include <mutex>

#include "pci/interrupt_routing.h"
#include "pci/pci_function.h"

namespace limen::pci {

/// Attach it to the bus at "0x1f" and give it to PciBus::connect_interrupts(): it takes INTx on
/// line device * 4 + pin, joins them into PIRQ A..H, and drives `gsi`:
///   lines 16..23  PIRQ A..H always (the I/O APIC's inputs in APIC mode),
///   lines 0..15   the ISA interrupt a PIRQ is routed to by registers 60h-63h and 68h-6Bh, while
///                 it is (bit 7 clear). The board feeds these to the 8259 pair, OR-ed with other
///                 sources of the same line if there are any.
class IchLpc final : public PciFunction, public irq::InterruptSink {
 public:
  static constexpr uint16_t kPmBase = 0x600;
  static constexpr uint64_t kPmSize = 128;

  /// `pm` answers the 128 ports at PMBASE (offsets from it); as firmware would have done, the block
  /// is enabled at 600h. Null: nothing is claimed and the board does it itself. Everything outlives
  /// the bridge.
  IchLpc(irq::InterruptSink& gsi, memory::IoSpace& ports, memory::IoHandler* pm = nullptr);
  ~IchLpc() override;

  void set_line(unsigned line, bool level) override;
  void reset() override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  void update_pm();
  void update_routes();
  void record_lines_locked();

  memory::IoSpace& ports_;
  memory::IoHandler* pm_;
  LinePublisher gsi_;
  std::mutex mutex_;
  std::array<uint8_t, 32> pins_{};  // guarded by mutex_; bit n: pin n of the device is high
  std::array<uint8_t, kPirqCount> routes_{};  // guarded by mutex_; copies of the registers
  uint64_t pm_claimed_at_ = 0;                // guarded by mutex_; 0: not claimed
};

}  // namespace limen::pci
