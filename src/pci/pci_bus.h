// A bus: which function sits at which device and function number.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "pci/pci_function.h"

namespace limen::pci {

/// A bus with up to 32 devices of 8 functions. Functions are attached and detached while no
/// processor runs; accesses need no lock here.
class PciBus {
 public:
  static constexpr unsigned kDevices = 32;
  static constexpr unsigned kFunctions = 8;

  /// `name`: "pcie.0". The connections outlive the bus. `devices`: how many it has room for; where
  /// that is all, device 0 is given out only by its address.
  PciBus(std::string name, const BusConnections& connections, unsigned devices = kDevices);

  [[nodiscard]] const std::string& name() const { return name_; }

  /// Puts `function` at `address`: "0x3", "3", "0x3.0x1", or empty for the first free device from
  /// 0x1 on. Fails when it is malformed, taken, or the bus is full.
  Result<PciAddress> attach(PciFunction& function, std::string_view address = {});

  /// Takes a function off, and its BARs with it.
  void detach(PciFunction& function);

  /// Where INTx goes: line `device` * 4 + pin (0 to 3) of `sink` (see IchLpc). Covers functions
  /// attached before and after.
  void connect_interrupts(irq::InterruptSink& sink);

  /// This bus for number 0, or the one of that number behind one of its bridges; nullptr: none.
  [[nodiscard]] const PciBus* find_bus(uint8_t number) const;

  /// Null where nothing is.
  [[nodiscard]] PciFunction* function(PciAddress address) const;
  /// In order of address.
  [[nodiscard]] std::vector<PciFunction*> functions() const;

  /// Configuration accesses of a guest; a function that is not there reads as all ones.
  uint32_t config_read(PciAddress address, uint16_t offset, unsigned size) const;
  void config_write(PciAddress address, uint16_t offset, unsigned size, uint32_t value) const;

 private:
  void connect_interrupt(PciFunction& function) const;

  std::string name_;
  BusConnections connections_;
  const unsigned devices_;
  irq::InterruptSink* interrupts_ = nullptr;
  std::array<PciFunction*, kDevices * kFunctions> functions_{};
};

/// Parses "0x3", "3", "0x3.0x1" or "3.1".
Result<PciAddress> parse_pci_address(std::string_view text);

/// Addresses that BARs may have: [start, start + size).
struct ResourceWindow {
  uint64_t start = 0;
  uint64_t size = 0;
};

/// What firmware does at power-on: gives every BAR on the bus an address (64-bit ones too come from
/// `mmio`, below 4 GiB), the interrupt-line register its GSI, and enables decoding. Call after all
/// functions are attached, and again after a reset. Fails when a window is too small.
/// `interrupt_of`: what a pin's interrupt-line register gets; empty: intx_gsi().
Result<> assign_resources(
    PciBus& bus, ResourceWindow mmio, ResourceWindow io,
    const std::function<unsigned(unsigned device, unsigned pin)>& interrupt_of = {});

}  // namespace limen::pci
