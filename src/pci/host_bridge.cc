#include "pci/host_bridge.h"

#include <utility>

namespace limen::pci {

HostBridge::HostBridge(std::string name, const Identity& identity, uint16_t pam0, PciBus& bus,
                       memory::IoSpace& ports, memory::IoHandler* reset_control, ShadowRam* shadow)
    : PciFunction(std::move(name), identity),
      pam0_(pam0),
      config_ports_(bus, ports, reset_control),
      shadow_(shadow) {
  set_register_writable(pam0_, 1, 0x30);
  for (unsigned i = 1; i < ShadowRam::kRegisters; ++i)
    set_register_writable(pam_register(i), 1, 0x33);
  update_shadow();
}

void HostBridge::reset() {
  PciFunction::reset();
  config_ports_.reset();
  update_shadow();
}

void HostBridge::resume() {
  const auto kept = pam();
  PciFunction::reset();
  for (unsigned i = 0; i < kept.size(); ++i) set_register(pam_register(i), 1, kept[i]);
  config_ports_.reset();
  update_shadow();
}

void HostBridge::config_written(uint16_t offset, unsigned size) {
  if (offset < pam_register(ShadowRam::kRegisters) && offset + size > pam0_) update_shadow();
}

std::array<uint8_t, ShadowRam::kRegisters> HostBridge::pam() const {
  std::array<uint8_t, ShadowRam::kRegisters> pam{};
  for (unsigned i = 0; i < pam.size(); ++i)
    pam[i] = static_cast<uint8_t>(register_value(pam_register(i), 1));
  return pam;
}

void HostBridge::update_shadow() {
  if (shadow_ != nullptr) shadow_->set_registers(pam());
}

}  // namespace limen::pci
