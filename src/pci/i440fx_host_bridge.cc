#include "pci/i440fx_host_bridge.h"

namespace limen::pci {
namespace {

constexpr uint16_t kPam0 = 0x59, kSmram = 0x72;
constexpr uint8_t kSmramAtReset = 0x02;

}  // namespace

I440fxHostBridge::I440fxHostBridge(PciBus& bus, memory::IoSpace& ports,
                                   memory::IoHandler* reset_control, ShadowRam* shadow)
    : HostBridge("i440FX",
                 {.vendor = 0x8086,
                  .device = 0x1237,
                  .revision = 2,
                  .class_code = 0x060000,
                  .subsystem_vendor = 0x1AF4,
                  .subsystem = 0x1100},
                 kPam0, bus, ports, reset_control, shadow) {
  // There is no system management mode, and no memory for it.
  set_register(kSmram, 1, kSmramAtReset);
  set_register_writable(kSmram, 1, 0x70);
}

}  // namespace limen::pci
