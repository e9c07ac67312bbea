// What the boards' chipsets and their descriptions agree on.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "boot/acpi/tables.h"
#include "machine/description.h"

namespace limen::machine {

/// Where the PIRQs of board pc go while no firmware has routed them.
inline constexpr std::array<uint8_t, 4> kPcPirqRoutes = {10, 10, 11, 11};

/// Whether the guest has S3 and S4: boards with a chipset do, where tables can tell of them.
[[nodiscard]] bool can_suspend_to_ram(const MachineDescription& description);
[[nodiscard]] bool can_suspend_to_disk(const MachineDescription& description);

/// What ACPI's tables say of the machine where a loader does firmware's work.
[[nodiscard]] boot::acpi::Board acpi_board(const MachineDescription& description,
                                           std::span<const uint32_t> apic_ids);

}  // namespace limen::machine
