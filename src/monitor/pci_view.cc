#include "monitor/pci_view.h"

#include <algorithm>
#include <array>

#include "machine/board.h"
#include "machine/machine.h"
#include "pci/root_port.h"

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

uint16_t word(pci::PciFunction& function, uint16_t offset) {
  return static_cast<uint16_t>(function.config_read(offset, 2));
}

/// PCI-to-PCI Bridge Architecture 1.2 §3.2.5.
PciBridgeInfo bridge_info(pci::PciFunction& function) {
  constexpr uint16_t kPrimary = 0x18, kIoBase = 0x1C, kIoUpper = 0x30, kMemoryBase = 0x20,
                     kPrefetchableBase = 0x24, kPrefetchableUpper = 0x28;
  PciBridgeInfo info;
  info.primary = function.config_read(kPrimary, 1);
  info.secondary = function.config_read(kPrimary + 1, 1);
  info.subordinate = function.config_read(kPrimary + 2, 1);
  const uint64_t io = word(function, kIoBase);
  info.io.base = (io & 0xF0) << 8 | uint64_t{word(function, kIoUpper)} << 16;
  info.io.limit = (io & 0xF000) | 0xFFF | uint64_t{word(function, kIoUpper + 2)} << 16;
  info.memory.base = uint64_t{word(function, kMemoryBase)} << 16;
  info.memory.limit = uint64_t{word(function, kMemoryBase + 2)} << 16 | 0xFFFFF;
  const auto wide = [&](uint16_t low, uint16_t high) {
    return uint64_t{word(function, low) & 0xFFF0u} << 16 | uint64_t{function.config_read(high, 4)}
                                                               << 32;
  };
  info.prefetchable.base = wide(kPrefetchableBase, kPrefetchableUpper);
  info.prefetchable.limit = wide(kPrefetchableBase + 2, kPrefetchableUpper + 4) | 0xFFFFF;
  return info;
}

PciFunctionInfo function_info(machine::Machine& machine, pci::PciFunction& function, unsigned bus) {
  PciFunctionInfo info;
  info.bus = bus;
  info.slot = function.address().device;
  info.function = function.address().function;
  info.vendor = word(function, pci::reg::kVendorId);
  info.device = word(function, pci::reg::kDeviceId);
  info.class_code = word(function, pci::reg::kRevision + 2);
  if (const auto found = std::ranges::find(kClasses, info.class_code, &ClassName::code);
      found != kClasses.end())
    info.class_name = found->name;
  for (const auto& device : machine.devices())
    if (const auto id = device.properties.find("id");
        id != device.properties.end() && id->second == function.name())
      info.id = function.name();
  info.pin = function.interrupt_pin();
  info.line = function.config_read(pci::reg::kInterruptLine, 1);
  for (unsigned i = 0; i < pci::PciFunction::kBarCount; ++i) {
    const auto& bar = function.bar(i);
    if (bar.size == 0) continue;
    info.regions.push_back({.bar = i,
                            .io = bar.kind == pci::BarKind::kIo,
                            .prefetchable = bar.prefetchable,
                            .is_64_bit = bar.kind == pci::BarKind::kMemory64,
                            .size = bar.size,
                            .address = function.bar_mapping(i)});
  }
  auto* port = dynamic_cast<pci::RootPort*>(&function);
  if (port == nullptr) {
    info.subsystem_vendor = word(function, pci::reg::kSubsystemVendorId);
    info.subsystem = word(function, pci::reg::kSubsystemId);
    return info;
  }
  info.bridge = bridge_info(function);
  for (auto* each : port->secondary().functions())
    info.behind.push_back(function_info(machine, *each, info.bridge->secondary));
  return info;
}

}  // namespace

std::vector<PciFunctionInfo> pci_functions(machine::Machine& machine) {
  std::vector<PciFunctionInfo> all;
  for (auto* function : machine.board()->bus().functions())
    all.push_back(function_info(machine, *function, 0));
  return all;
}

}  // namespace limen::monitor
