// What the host bridges of boards pc and q35 have in common: the configuration ports, and the PAM
// registers, which say what shows in the last 256 KiB below 1 MiB.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "pci/config_ports.h"
#include "pci/pci_bus.h"
#include "pci/shadow_ram.h"

namespace limen::pci {

class HostBridge : public PciFunction {
 public:
  void reset() override;
  /// The PAM registers stay, as in QEMU: SeaBIOS goes on in the RAM under the BIOS.
  void resume() override;

 protected:
  /// `pam0`: where PAM0 stands, the others behind it. Claims ports CF8h-CFFh; `reset_control` as
  /// ConfigPorts has it. `shadow` may be null: then RAM shows everywhere. Everything outlives the
  /// bridge.
  HostBridge(std::string name, const Identity& identity, uint16_t pam0, PciBus& bus,
             memory::IoSpace& ports, memory::IoHandler* reset_control, ShadowRam* shadow);
  void config_written(uint16_t offset, unsigned size) override;

 private:
  [[nodiscard]] std::array<uint8_t, ShadowRam::kRegisters> pam() const;
  [[nodiscard]] uint16_t pam_register(unsigned index) const {
    return static_cast<uint16_t>(pam0_ + index);
  }
  void update_shadow();

  const uint16_t pam0_;
  ConfigPorts config_ports_;
  ShadowRam* const shadow_;
};

}  // namespace limen::pci
