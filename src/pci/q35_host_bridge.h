// The host bridge of the Q35 chipset, 8086:29C0 at 0:0.0: ports CF8h/CFCh and the memory-mapped
// configuration space (Intel 3 Series Express Chipset datasheet 316966, §5; PCI Express
// Base 7.2.2).
#pragma once

#include <cstdint>
#include <mutex>

#include "pci/pci_bus.h"

namespace limen::pci {

class Q35HostBridge final : public PciFunction {
 public:
  static constexpr uint64_t kEcamDefaultBase = 0xB000'0000;
  static constexpr uint64_t kEcamSize = 256ull << 20;

  /// Claims ports CF8h-CFFh and, as firmware would have set it up, the ECAM window at its default.
  /// Byte accesses to port CF9h go to `reset_control` (offset 0) if there is one: that port lies
  /// within the four bytes of CF8h, which only respond to 32-bit accesses. Attach the bridge to
  /// `bus` at "0x0" afterwards. Everything outlives the bridge.
  Q35HostBridge(PciBus& bus, memory::IoSpace& ports, memory::IoSpace& mmio,
                memory::IoHandler* reset_control = nullptr);
  ~Q35HostBridge() override;

  void reset() override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  struct Ports final : memory::IoHandler {
    explicit Ports(Q35HostBridge& bridge) : bridge_(bridge) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    Q35HostBridge& bridge_;
  };
  struct Ecam final : memory::IoHandler {
    explicit Ecam(PciBus& bus) : bus_(bus) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    PciBus& bus_;
  };
  void update_ecam();

  PciBus& bus_;
  memory::IoSpace& port_space_;
  memory::IoSpace& mmio_;
  memory::IoHandler* reset_control_;
  Ports ports_{*this};
  Ecam ecam_;

  std::mutex mutex_;
  uint32_t config_address_ = 0;  // guarded by mutex_
  uint64_t ecam_base_ = 0;       // guarded by mutex_
  uint64_t ecam_size_ = 0;       // guarded by mutex_; 0: not claimed
};

}  // namespace limen::pci
