// Board microvm: no PCI unless it is asked for, virtio devices with registers in memory.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "boot/acpi/tables.h"
#include "boot/mp_table.h"
#include "machine/description.h"

namespace limen::machine {

/// The board has PCI.
[[nodiscard]] bool has_pci(const MachineDescription& description);

/// Place `index` of the virtio devices, in the order in which they are made. The first eight have
/// an interrupt of their own. Fails where there are no more.
Result<boot::acpi::MmioDevice> virtio_place(unsigned index, bool acpi);
/// The places that the description's virtio devices take.
[[nodiscard]] std::vector<boot::acpi::MmioDevice> virtio_places(
    const MachineDescription& description);

/// The kernel's command line, with the virtio devices where no table tells of them (Linux:
/// admin-guide/kernel-parameters, virtio_mmio.device=).
[[nodiscard]] std::string kernel_command_line(const MachineDescription& description);

/// Processors and I/O APIC are in an MP table, as nothing else tells of them.
[[nodiscard]] bool has_mp_table(const MachineDescription& description);
/// What stands in it, but for the kind of processor.
[[nodiscard]] boot::mp::Board mp_board(const MachineDescription& description,
                                       std::span<const uint32_t> apic_ids);

/// What board microvm cannot do, before anything is made.
Result<> check_microvm(const MachineDescription& description);

}  // namespace limen::machine
