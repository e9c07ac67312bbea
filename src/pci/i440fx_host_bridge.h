// The host bridge of the i440FX, 8086:1237 at 0:0.0 (Intel 440FX PCIset datasheet 290549).
#pragma once

#include <array>

#include "pci/config_ports.h"
#include "pci/pci_bus.h"
#include "pci/shadow_ram.h"

namespace limen::pci {

class I440fxHostBridge final : public PciFunction {
 public:
  /// Claims ports CF8h-CFFh; `reset_control` as ConfigPorts has it. `shadow` may be null: then RAM
  /// shows everywhere. Attach it to `bus` at "0x0" afterwards. Everything outlives the bridge.
  I440fxHostBridge(PciBus& bus, memory::IoSpace& ports, memory::IoHandler* reset_control,
                   ShadowRam* shadow);

  void reset() override;
  /// The PAM registers stay, as in QEMU: SeaBIOS goes on in the RAM under the BIOS.
  void resume() override;

 protected:
  void config_written(uint16_t offset, unsigned size) override;

 private:
  [[nodiscard]] std::array<uint8_t, ShadowRam::kRegisters> pam() const;
  void update_shadow();

  ConfigPorts config_ports_;
  ShadowRam* const shadow_;
};

}  // namespace limen::pci
