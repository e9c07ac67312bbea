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

struct PciFunctionInfo {
  unsigned slot = 0, function = 0;
  uint16_t vendor = 0, device = 0, subsystem_vendor = 0, subsystem = 0;
  uint16_t class_code = 0;
  std::string class_name;
  std::string id;  ///< Of -device.
  unsigned pin = 0, line = 0;
  std::vector<PciRegion> regions;
};

[[nodiscard]] std::vector<PciFunctionInfo> pci_functions(machine::Machine& machine);

}  // namespace limen::monitor
