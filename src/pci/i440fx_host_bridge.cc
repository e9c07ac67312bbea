#include "pci/i440fx_host_bridge.h"

namespace limen::pci {
namespace {

constexpr uint16_t kPam0 = 0x59, kSmram = 0x72;
constexpr uint8_t kSmramAtReset = 0x02;

}  // namespace

I440fxHostBridge::I440fxHostBridge(PciBus& bus, memory::IoSpace& ports,
                                   memory::IoHandler* reset_control, ShadowRam* shadow)
    : PciFunction("i440FX", {.vendor = 0x8086,
                             .device = 0x1237,
                             .revision = 2,
                             .class_code = 0x060000,
                             .subsystem_vendor = 0x1AF4,
                             .subsystem = 0x1100}),
      config_ports_(bus, ports, reset_control),
      shadow_(shadow) {
  set_register_writable(kPam0, 1, 0x30);
  for (uint16_t i = 1; i < ShadowRam::kRegisters; ++i)
    set_register_writable(static_cast<uint16_t>(kPam0 + i), 1, 0x33);
  // There is no system management mode, and no memory for it.
  set_register(kSmram, 1, kSmramAtReset);
  set_register_writable(kSmram, 1, 0x70);
  update_shadow();
}

void I440fxHostBridge::reset() {
  PciFunction::reset();
  config_ports_.reset();
  update_shadow();
}

void I440fxHostBridge::resume() {
  const auto kept = pam();
  PciFunction::reset();
  for (unsigned i = 0; i < kept.size(); ++i)
    set_register(static_cast<uint16_t>(kPam0 + i), 1, kept[i]);
  config_ports_.reset();
  update_shadow();
}

void I440fxHostBridge::config_written(uint16_t offset, unsigned size) {
  if (offset < kPam0 + ShadowRam::kRegisters && offset + size > kPam0) update_shadow();
}

std::array<uint8_t, ShadowRam::kRegisters> I440fxHostBridge::pam() const {
  std::array<uint8_t, ShadowRam::kRegisters> pam{};
  for (unsigned i = 0; i < pam.size(); ++i)
    pam[i] = static_cast<uint8_t>(register_value(static_cast<uint16_t>(kPam0 + i), 1));
  return pam;
}

void I440fxHostBridge::update_shadow() {
  if (shadow_ != nullptr) shadow_->set_registers(pam());
}

}  // namespace limen::pci
