// The functions on the PCI bus, as monitors show them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace limen::machine {
class Machine;
}

namespace limen::monitor {

struct PciRegion {
  unsigned bar = 0;
  bool io = false;
  bool prefetchable = false;
  bool is_64_bit = false;
  uint64_t size = 0;
  std::optional<uint64_t> address = {};  ///< Nothing while it is not decoded.
};

/// What of a bridge is set up: its buses and the addresses that it passes on.
struct PciBridgeInfo {
  struct Range {
    uint64_t base = 0, limit = 0;
  };
  unsigned primary = 0, secondary = 0, subordinate = 0;
  Range io, memory, prefetchable;
};

struct PciFunctionInfo {
  unsigned slot = 0, function = 0;
  uint16_t vendor = 0, device = 0, subsystem_vendor = 0, subsystem = 0;
  uint16_t class_code = 0;
  std::string class_name;
  std::string id;  ///< Of -device.
  unsigned pin = 0, line = 0;
  std::vector<PciRegion> regions;
  unsigned bus = 0;
  std::optional<PciBridgeInfo> bridge = {};
  std::vector<PciFunctionInfo> behind = {};  ///< A bridge's.
};

/// Those of the root bus; what is behind a bridge is the bridge's.
[[nodiscard]] std::vector<PciFunctionInfo> pci_functions(machine::Machine& machine);

}  // namespace limen::monitor
