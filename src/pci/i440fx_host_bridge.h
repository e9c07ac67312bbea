// The host bridge of the i440FX, 8086:1237 at 0:0.0 (Intel 440FX PCIset datasheet 290549).
#pragma once

#include "pci/host_bridge.h"

namespace limen::pci {

class I440fxHostBridge final : public HostBridge {
 public:
  /// As HostBridge has it. Attach it to `bus` at "0x0" afterwards.
  I440fxHostBridge(PciBus& bus, memory::IoSpace& ports, memory::IoHandler* reset_control,
                   ShadowRam* shadow);
};

}  // namespace limen::pci
