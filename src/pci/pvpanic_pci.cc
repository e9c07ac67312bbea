#include "pci/pvpanic_pci.h"

#include <utility>

namespace limen::pci {
namespace {

constexpr PciFunction::Identity kIdentity = {.vendor = 0x1B36,  // Red Hat
                                             .device = 0x0011,
                                             .revision = 1,
                                             .class_code = 0x088000,  // system peripheral, other
                                             .subsystem_vendor = 0x1AF4,
                                             .subsystem = 0x1100};

}  // namespace

PvpanicPci::PvpanicPci(std::string name, uint8_t events,
                       std::function<void(device::PanicEvent)> told)
    : PciFunction(std::move(name), kIdentity), register_(events, std::move(told)) {
  // Two bytes of it are used; the smallest BAR has 16.
  set_bar(0,
          {.kind = BarKind::kMemory32, .prefetchable = false, .size = 16, .handler = &register_});
}

}  // namespace limen::pci
