// The host bridge of the Q35 chipset, 8086:29C0 at 0:0.0: shadow RAM and the memory-mapped
// configuration space (Intel 3 Series Express Chipset datasheet 316966, §5; PCI Express
// Base 7.2.2).
#pragma once

#include <cstdint>
#include <mutex>

#include "pci/host_bridge.h"

namespace limen::pci {

class Q35HostBridge final : public HostBridge {
 public:
  static constexpr uint64_t kEcamDefaultBase = 0xB000'0000;
  static constexpr uint64_t kEcamSize = 256ull << 20;

  /// Claims ports CF8h-CFFh; `reset_control` as ConfigPorts has it. `shadow`: what firmware finds
  /// at power-on; null: the bridge is as firmware leaves it, RAM everywhere and the ECAM window at
  /// its default. Attach the bridge to `bus` at "0x0" afterwards. Everything outlives the bridge.
  Q35HostBridge(PciBus& bus, memory::IoSpace& ports, memory::IoSpace& mmio,
                memory::IoHandler* reset_control = nullptr, ShadowRam* shadow = nullptr);
  ~Q35HostBridge() override;

  void reset() override;
  void resume() override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  struct Ecam final : memory::IoHandler {
    explicit Ecam(PciBus& bus) : bus_(bus) {}
    uint64_t io_read(uint64_t offset, unsigned size) override;
    void io_write(uint64_t offset, unsigned size, uint64_t value) override;
    PciBus& bus_;
  };
  void update_ecam();

  memory::IoSpace& mmio_;
  Ecam ecam_;

  std::mutex mutex_;
  uint64_t ecam_base_ = 0;  // guarded by mutex_
  uint64_t ecam_size_ = 0;  // guarded by mutex_; 0: not claimed
};

}  // namespace limen::pci
