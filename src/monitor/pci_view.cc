#include "monitor/pci_view.h"

#include <algorithm>
#include <array>

#include "machine/machine.h"
#include "machine/q35_board.h"

namespace limen::monitor {
namespace {

struct ClassName {
  uint16_t code;
  std::string_view name;
};
// PCI Code and ID Assignment Specification 1.11, section 1.
constexpr std::array kClasses = {ClassName{0x00FF, "Unclassified device"},
                                 ClassName{0x0100, "SCSI controller"},
                                 ClassName{0x0101, "IDE controller"},
                                 ClassName{0x0106, "SATA controller"},
                                 ClassName{0x0200, "Ethernet controller"},
                                 ClassName{0x0300, "VGA controller"},
                                 ClassName{0x0380, "Display controller"},
                                 ClassName{0x0600, "Host bridge"},
                                 ClassName{0x0601, "ISA bridge"},
                                 ClassName{0x0604, "PCI bridge"},
                                 ClassName{0x0780, "Serial port"},
                                 ClassName{0x0C03, "USB controller"},
                                 ClassName{0x0C05, "SMBus"},
                                 ClassName{0x0255, "Entropy source"}};

}  // namespace

std::vector<PciFunctionInfo> pci_functions(machine::Machine& machine) {
  std::vector<PciFunctionInfo> all;
  for (auto* function : machine.board()->bus().functions()) {
    PciFunctionInfo info;
    const auto word = [&](uint16_t offset) {
      return static_cast<uint16_t>(function->config_read(offset, 2));
    };
    info.slot = function->address().device;
    info.function = function->address().function;
    info.vendor = word(pci::reg::kVendorId);
    info.device = word(pci::reg::kDeviceId);
    info.subsystem_vendor = word(pci::reg::kSubsystemVendorId);
    info.subsystem = word(pci::reg::kSubsystemId);
    info.class_code = word(pci::reg::kRevision + 2);
    if (const auto found = std::ranges::find(kClasses, info.class_code, &ClassName::code);
        found != kClasses.end())
      info.class_name = found->name;
    for (const auto& device : machine.description().devices)
      if (const auto id = device.properties.find("id");
          id != device.properties.end() && id->second == function->name())
        info.id = function->name();
    info.pin = function->interrupt_pin();
    info.line = function->config_read(pci::reg::kInterruptLine, 1);
    for (unsigned i = 0; i < pci::PciFunction::kBarCount; ++i) {
      const auto& bar = function->bar(i);
      if (bar.size == 0) continue;
      info.regions.push_back({.bar = i,
                              .io = bar.kind == pci::BarKind::kIo,
                              .prefetchable = bar.prefetchable,
                              .is_64_bit = bar.kind == pci::BarKind::kMemory64,
                              .size = bar.size,
                              .address = function->bar_mapping(i)});
    }
    all.push_back(std::move(info));
  }
  return all;
}

}  // namespace limen::monitor
