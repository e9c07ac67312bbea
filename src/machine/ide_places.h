// Where drives with if=ide go on the controller that a board has.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/description.h"

namespace limen::machine {

/// The board's own IDE buses: q35 has six with one drive each (AHCI), pc two with two (PIIX3),
/// others none.
struct IdePlaces {
  unsigned buses = 0;
  unsigned units = 0;
};
[[nodiscard]] IdePlaces ide_places(std::string_view machine_type);

/// The description's drives, those with if=ide with `bus` and `unit` as QEMU numbers them: what
/// index=, bus= and unit= say, and for others the first place that is free in their order. Fails
/// for a place that is not there or taken.
Result<std::vector<DriveDescription>> place_ide_drives(const MachineDescription& description);

}  // namespace limen::machine
