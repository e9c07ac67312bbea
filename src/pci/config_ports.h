// Ports CF8h to CFFh, by which a PC reaches PCI's configuration space (PCI Local Bus 3.0
// §3.2.2.3.2).
#pragma once

#include <cstdint>
#include <mutex>

#include "memory/io_space.h"
#include "pci/pci_bus.h"

namespace limen::pci {

/// Configuration mechanism 1. Byte accesses to port CF9h go to `reset_control` (offset 0) if there
/// is one: that port lies within the four bytes of CF8h, which only respond to 32-bit accesses.
class ConfigPorts final : public memory::IoHandler {
 public:
  /// Everything outlives this.
  ConfigPorts(PciBus& bus, memory::IoSpace& ports, memory::IoHandler* reset_control);
  ~ConfigPorts() override;
  ConfigPorts(const ConfigPorts&) = delete;
  ConfigPorts& operator=(const ConfigPorts&) = delete;

  void reset();
  uint64_t io_read(uint64_t offset, unsigned size) override;
  void io_write(uint64_t offset, unsigned size, uint64_t value) override;

 private:
  PciBus& bus_;
  memory::IoSpace& ports_;
  memory::IoHandler* const reset_control_;
  std::mutex mutex_;
  uint32_t address_ = 0;  // guarded by mutex_
};

}  // namespace limen::pci
