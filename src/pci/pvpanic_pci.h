// -device pvpanic-pci: the panic register behind a BAR (QEMU, docs/specs/pvpanic).
#pragma once

#include <functional>
#include <string>

#include "device/pvpanic.h"
#include "pci/pci_function.h"

namespace limen::pci {

class PvpanicPci final : public PciFunction {
 public:
  PvpanicPci(std::string name, uint8_t events, std::function<void(device::PanicEvent)> told);

 private:
  device::PanicRegister register_;
};

}  // namespace limen::pci
