// One PCI function: configuration header, BARs, capabilities, INTx and MSI-X.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "device/device.h"
#include "irq/interrupt_line.h"
#include "irq/msi.h"
#include "memory/guest_memory.h"
#include "memory/io_space.h"
#include "pci/configuration_space.h"
#include "pci/line_publisher.h"
#include "pci/msix.h"

namespace limen::pci {

class PciBus;

/// Device and function number on a bus.
struct PciAddress {
  uint8_t device = 0;    ///< 0 to 31
  uint8_t function = 0;  ///< 0 to 7
  bool operator==(const PciAddress&) const = default;
};

enum class BarKind : uint8_t { kIo, kMemory32, kMemory64 };

/// What a base address register is and where its accesses go (PCI Local Bus 3.0 §6.2.5).
struct Bar {
  BarKind kind = BarKind::kMemory32;
  bool prefetchable = false;
  uint64_t size = 0;  ///< Power of two; at least 16 (memory) or 4 (I/O). 0: no such BAR.
  memory::IoHandler* handler = nullptr;
  /// Memory that processors and devices reach directly, of GuestMemory::reserve() and `size` bytes,
  /// in place of `handler`; only for memory BARs.
  std::span<std::byte> ram = {};
};

/// What the bus gives each function that is attached to it. All outlive the function.
struct BusConnections {
  memory::IoSpace* ports = nullptr;
  memory::IoSpace* mmio = nullptr;
  irq::MsiSink* msi = nullptr;
  memory::GuestMemory* memory = nullptr;  ///< For BARs that are memory.
};

/// Base of every PCI device. A derived class describes itself in its constructor with the protected
/// calls; PciBus::attach() then connects it. Configuration accesses come on vCPU threads.
class PciFunction : public device::Device {
 public:
  struct Identity {
    uint16_t vendor = 0;
    uint16_t device = 0;
    uint8_t revision = 0;
    uint32_t class_code = 0;  ///< Base class, subclass, interface: 0xBBSSII.
    uint16_t subsystem_vendor = 0;
    uint16_t subsystem = 0;
  };

  static constexpr unsigned kBarCount = 6;

  /// `name` is for messages and for the owner of its ranges.
  PciFunction(std::string name, const Identity& identity);
  ~PciFunction() override;
  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] PciAddress address() const { return address_; }

  /// What a guest does. Any offset and size: one that is not 1, 2 or 4 bytes within the space reads
  /// as ones and is otherwise ignored. Thread-safe.
  uint32_t config_read(uint16_t offset, unsigned size);
  void config_write(uint16_t offset, unsigned size, uint32_t value);

  [[nodiscard]] const Bar& bar(unsigned index) const { return bars_[index].config; }
  /// Where a BAR is decoded now; nothing while decoding is off or the address is impossible.
  [[nodiscard]] std::optional<uint64_t> bar_mapping(unsigned index) const;
  /// 0: none; 1 to 4: INTA to INTD.
  [[nodiscard]] uint8_t interrupt_pin() const;

  /// Header and MSI-X as after power-on, BARs unmapped. A derived class that has more calls this.
  void reset() override;

  /// A bridge's: the bus behind it of that number; nullptr: not behind it.
  virtual PciBus* bus_behind([[maybe_unused]] uint8_t number) { return nullptr; }
  /// A bridge's: where INTx of what is behind it goes, as PciBus::connect_interrupts() has it.
  virtual void connect_downstream_interrupts([[maybe_unused]] irq::InterruptSink& sink) {}

  /// The expansion ROM (PCI Local Bus 3.0 §6.2.5.2): bytes of GuestMemory::reserve(), a power of
  /// two of them. Before it is attached.
  void set_rom(std::span<std::byte> rom);

  /// For PciBus only.
  void attach(PciAddress address, const BusConnections& connections);
  void connect_interrupt(irq::InterruptSink& sink, unsigned line) { intx_.connect(sink, line); }
  void set_multifunction();

 protected:
  /// For constructors. `index` with a 64-bit BAR also uses up index + 1.
  void set_bar(unsigned index, const Bar& bar);
  /// Adds a capability of `size` bytes (with id and next pointer) and returns its offset.
  uint16_t add_capability(uint8_t id, uint8_t size);
  /// Gives the function an exclusive memory BAR with `vectors` MSI-X vectors.
  void add_msix(unsigned bar_index, unsigned vectors);
  /// Gives the function message-signalled interrupts with one vector (PCI Local Bus 3.0 §6.8.1).
  void add_msi();
  /// `pin` 1 (INTA) to 4 (INTD).
  void set_interrupt_pin(uint8_t pin);
  /// For constructors, and for config_written() under no lock: device-side register accesses.
  void set_register(uint16_t offset, unsigned size, uint32_t value);
  void set_register_writable(uint16_t offset, unsigned size, uint32_t mask);
  [[nodiscard]] uint32_t register_value(uint16_t offset, unsigned size) const;

  /// After a guest's write was stored; no lock is held.
  virtual void config_written(uint16_t offset, unsigned size);
  /// Before a guest's read; no lock is held. A value replaces the stored one.
  virtual std::optional<uint32_t> config_read_hook(uint16_t offset, unsigned size);

  /// Level of the INTx pin, gated by the command register's interrupt-disable bit. Thread-safe.
  /// record_intx() may be called under the lock that decides the level; deliver_intx() follows
  /// without any lock.
  void record_intx(bool level);
  void deliver_intx() { intx_.deliver(); }
  /// Null without add_msix().
  [[nodiscard]] MsixTable* msix() const { return msix_.get(); }
  [[nodiscard]] bool bus_master() const;
  /// Whether the guest wants messages in place of INTx; false without add_msi().
  [[nodiscard]] bool msi_enabled() const;
  /// Sends the message, if it is enabled. Call without a lock that a MsiSink could need.
  void send_msi();

 private:
  struct BarState {
    Bar config;
    uint64_t mapped_at = 0;
    bool mapped = false;
  };
  std::optional<uint64_t> wanted_mapping_locked(unsigned index) const;
  void update_rom_locked();
  void update_mappings_locked();
  void unmap_locked(BarState& bar);
  void unmap_all_locked();
  void record_intx_locked();
  void update_msix();

  std::string name_;
  PciAddress address_;
  BusConnections connections_;
  std::unique_ptr<MsixTable> msix_;
  uint16_t msix_capability_ = 0;
  uint16_t msi_capability_ = 0;
  uint16_t last_capability_ = 0;
  uint16_t free_capability_ = 0x40;
  LinePublisher intx_;

  mutable std::mutex config_mutex_;
  ConfigurationSpace power_on_;           // guarded by config_mutex_: what reset() restores
  ConfigurationSpace space_;              // guarded by config_mutex_
  std::array<BarState, kBarCount> bars_;  // mappings guarded by config_mutex_
  std::span<std::byte> rom_;
  uint64_t rom_mapped_at_ = 0;  // guarded by config_mutex_; 0: not mapped
  bool intx_level_ = false;     // guarded by config_mutex_
};

}  // namespace limen::pci
