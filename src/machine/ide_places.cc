#include "machine/ide_places.h"

#include <algorithm>

namespace limen::machine {

IdePlaces ide_places(std::string_view machine_type) {
  if (machine_type.starts_with("q35") || machine_type.starts_with("pc-q35")) return {6, 1};
  if (machine_type == "pc" || machine_type.starts_with("pc-i440fx")) return {2, 2};
  return {};
}

Result<std::vector<DriveDescription>> place_ide_drives(const MachineDescription& description) {
  const auto places = ide_places(description.type);
  auto drives = description.drives;
  for (size_t i = 0; i < drives.size(); ++i) {
    auto& drive = drives[i];
    if (drive.interface != "ide") continue;
    const auto taken = [&](unsigned bus, unsigned unit) {
      return std::ranges::any_of(drives.begin(), drives.begin() + static_cast<ptrdiff_t>(i),
                                 [&](const DriveDescription& other) {
                                   return other.interface == "ide" && other.bus == bus &&
                                          other.unit == unit;
                                 });
    };
    const unsigned units = std::max(places.units, 1u);
    unsigned bus = drive.bus.value_or(0), unit = drive.unit.value_or(0);
    if (drive.index) {
      bus = *drive.index / units;
      unit = *drive.index % units;
    } else if (!drive.unit) {
      while (taken(bus, unit))
        if (++unit == units) {
          unit = 0;
          ++bus;
        }
    }
    if (bus >= places.buses || unit >= places.units)
      return fail("machine type does not support if=ide,bus={},unit={}", bus, unit);
    if (taken(bus, unit))
      return fail("drive with bus={}, unit={} (index={}) exists", bus, unit, bus * units + unit);
    drive.bus = bus;
    drive.unit = unit;
  }
  return drives;
}

}  // namespace limen::machine
