// What stands on the PCI bus.
#include <algorithm>
#include <array>

#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/pci_view.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kPciSchema = R"(
struct PciMemoryRegion { bar: int, type: str, address: int, size: int, *prefetch: bool,
  *mem_type_64: bool }
struct PciDeviceClass { *desc: str, class: int }
struct PciDeviceId { device: int, vendor: int, *subsystem: int, *subsystem-vendor: int }
struct PciMemoryRange { base: int, limit: int }
struct PciBusInfo { number: int, secondary: int, subordinate: int, io_range: PciMemoryRange,
  memory_range: PciMemoryRange, prefetchable_range: PciMemoryRange }
struct PciBridgeInfo { bus: PciBusInfo, *devices: [PciDeviceInfo] }
struct PciDeviceInfo { bus: int, slot: int, function: int, class_info: PciDeviceClass,
  id: PciDeviceId, *irq: int, irq_pin: int, qdev_id: str, *pci_bridge: PciBridgeInfo,
  regions: [PciMemoryRegion] }
struct PciInfo { bus: int, devices: [PciDeviceInfo] }
command query-pci -> [PciInfo]
)";

Json range(const PciBridgeInfo::Range& range) {
  return {{"base", range.base}, {"limit", range.limit}};
}

Json describe(const std::vector<PciFunctionInfo>& functions) {
  Json devices = Json::array();
  for (const auto& function : functions) {
    Json regions = Json::array();
    for (const auto& region : function.regions) {
      Json each = {{"bar", region.bar},
                   {"type", region.io ? "io" : "memory"},
                   {"address", region.address ? static_cast<int64_t>(*region.address) : -1},
                   {"size", region.size}};
      if (!region.io) {
        each["prefetch"] = region.prefetchable;
        each["mem_type_64"] = region.is_64_bit;
      }
      regions.push_back(std::move(each));
    }
    Json each = {{"bus", function.bus},
                 {"slot", function.slot},
                 {"function", function.function},
                 {"class_info", {{"class", function.class_code}}},
                 {"id", {{"vendor", function.vendor}, {"device", function.device}}},
                 {"irq_pin", function.pin},
                 {"qdev_id", function.id},
                 {"regions", std::move(regions)}};
    if (!function.class_name.empty()) each["class_info"]["desc"] = function.class_name;
    if (function.subsystem_vendor != 0) {
      each["id"]["subsystem-vendor"] = function.subsystem_vendor;
      each["id"]["subsystem"] = function.subsystem;
    }
    if (function.pin != 0) each["irq"] = function.line;
    if (const auto& bridge = function.bridge) {
      each["pci_bridge"] = {{"bus",
                             {{"number", bridge->primary},
                              {"secondary", bridge->secondary},
                              {"subordinate", bridge->subordinate},
                              {"io_range", range(bridge->io)},
                              {"memory_range", range(bridge->memory)},
                              {"prefetchable_range", range(bridge->prefetchable)}}}};
      if (!function.behind.empty()) each["pci_bridge"]["devices"] = describe(function.behind);
    }
    devices.push_back(std::move(each));
  }
  return devices;
}

Reply query_pci(Context& context, const Json&) {
  if (context.machine.board() == nullptr) return Json::array();
  return Json::array({Json{{"bus", 0}, {"devices", describe(pci_functions(context.machine))}}});
}

}  // namespace

CommandGroup pci_commands() { return {kPciSchema, {{"query-pci", query_pci}}}; }

}  // namespace limen::monitor
