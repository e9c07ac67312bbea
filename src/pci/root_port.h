// A PCI Express root port: a bridge with one slot behind it, into which devices are plugged while
// the machine runs (PCI Express Base 5.0 §7.5.3, §6.7; PCI-to-PCI Bridge Architecture 1.2 §3.2).
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include "pci/pci_bus.h"
#include "pci/pci_function.h"

namespace limen::pci {

/// QEMU's pcie-root-port, 1B36:000C. The slot has an attention button, indicators and a power
/// controller; hot-plug is the guest's to do ("native"), told by an MSI-X message.
class RootPort final : public PciFunction {
 public:
  struct Config {
    std::string name;  ///< Of the port and of the bus behind it.
    uint8_t port = 0;  ///< Number of the port in its link capabilities.
    uint8_t chassis = 0;
    uint16_t slot = 0;  ///< Physical slot number, 13 bits.
  };
  RootPort(const Config& config, const BusConnections& connections);

  /// The bus behind it: one device, number 0.
  [[nodiscard]] PciBus& secondary() { return secondary_; }
  PciBus* bus_behind(uint8_t number) override;
  [[nodiscard]] bool occupied() const;

  // Hot-plug. While no processor runs.

  /// Tells the guest that the slot, whose bus has a device now, is occupied.
  void plugged();
  /// Presses the attention button: a guest that agrees turns the slot's power off, and then
  /// `powered_off` of set_power_off_listener() is called. False: the slot is empty.
  bool request_unplug();
  /// Tells the guest that the device, which is off the bus by now, is gone.
  void unplugged();
  /// `powered_off` is called on the vCPU's thread.
  void set_power_off_listener(std::function<void()> powered_off) {
    powered_off_ = std::move(powered_off);
  }

  /// What firmware does: the numbers of the buses, and the memory and ports that the bridge passes
  /// on; an empty window of ports is none.
  void assign_buses(uint8_t primary, uint8_t secondary, uint8_t subordinate);
  Result<> assign_windows(ResourceWindow memory, ResourceWindow ports);
  /// Whether something behind it wants ports.
  [[nodiscard]] bool wants_ports() const;

  void reset() override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  /// INTx of what is behind the port, as the port's own device (Bridge Architecture 1.2 §9.1).
  class Swizzle final : public irq::InterruptSink {
   public:
    explicit Swizzle(RootPort& port) : port_(port) {}
    void set_line(unsigned line, bool level) override;

   private:
    RootPort& port_;
  };

  [[nodiscard]] uint16_t at(uint16_t field) const {
    return static_cast<uint16_t>(express_ + field);
  }
  /// Shows in the registers what `occupied` and the events are; true: an interrupt is due.
  bool update_slot_locked();
  void note_events(uint16_t events);
  void connect_downstream_interrupts(irq::InterruptSink& sink) override;

  PciBus secondary_;
  Swizzle swizzle_{*this};
  irq::InterruptSink* upstream_ = nullptr;
  uint16_t express_ = 0;
  std::function<void()> powered_off_;

  mutable std::mutex slot_mutex_;
  uint16_t status_ = 0;        // guarded by slot_mutex_: events of the slot status register
  uint16_t control_ = 0;       // guarded by slot_mutex_: slot control, guest-controlled
  bool interrupting_ = false;  // guarded by slot_mutex_
};

/// What firmware does for the root ports of `bus`: numbers their buses from 1 on, and takes for
/// each, off the ends of `mmio` and, where something behind it wants ports, `io`, windows that it
/// assigns to what is behind it.
Result<> assign_root_ports(PciBus& bus, ResourceWindow& mmio, ResourceWindow& io);

}  // namespace limen::pci
