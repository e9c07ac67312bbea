#include "display/vga/vga.h"

namespace limen::display::vga {
namespace {

constexpr pci::PciFunction::Identity kIdentity = {.vendor = 0x1234,
                                                  .device = 0x1111,
                                                  .revision = 2,
                                                  .class_code = 0x030000,  // VGA compatible
                                                  .subsystem_vendor = 0x1AF4,
                                                  .subsystem = 0x1100};

}  // namespace

Vga::Vga(const VgaProperties& properties, memory::IoSpace& ports, memory::IoSpace& mmio,
         std::span<std::byte> memory)
    : PciFunction(properties.name, kIdentity),
      core_(ports, mmio, memory),
      registers_(core_, properties.edid) {
  set_bar(kMemoryBar, {.kind = pci::BarKind::kMemory32,
                       .prefetchable = true,
                       .size = memory.size(),
                       .ram = memory});
  set_bar(kRegisterBar,
          {.kind = pci::BarKind::kMemory32, .size = RegisterBar::kBytes, .handler = &registers_});
}

void Vga::reset() {
  PciFunction::reset();
  core_.reset();
}

}  // namespace limen::display::vga
