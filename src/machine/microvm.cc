#include "machine/microvm.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "machine/device_catalog.h"
#include "machine/firmware.h"
#include "virtio/virtio_mmio.h"

namespace limen::machine {
namespace {

constexpr uint64_t kVirtioBase = 0xFEB0'0000;  ///< As on QEMU's board of this name.
constexpr unsigned kMostVirtio = 24;
constexpr unsigned kFirstLine = 16, kLines = 8;
/// Without ACPI a kernel has the ISA interrupts alone.
constexpr std::array<uint8_t, kLines> kIsaLines = {5, 10, 11, 9, 12, 7, 14, 15};

size_t count_virtio(const MachineDescription& description) {
  if (has_pci(description)) return 0;
  const auto devices =
      std::ranges::count_if(description.devices, [](const DeviceDescription& device) {
        const auto* found = find_device(resolve_driver(device.driver, false));
        return found != nullptr && found->bus == kVirtioBus;
      });
  return static_cast<size_t>(
      devices + std::ranges::count(description.drives, "virtio", &DriveDescription::interface));
}

}  // namespace

bool has_pci(const MachineDescription& description) {
  return description.type != "microvm" || description.microvm.pcie;
}

Result<boot::acpi::MmioDevice> virtio_place(unsigned index, bool acpi) {
  if (index >= kMostVirtio)
    return fail("board microvm has no place for more than {} virtio devices", kMostVirtio);
  return boot::acpi::MmioDevice{
      .base = static_cast<uint32_t>(kVirtioBase + index * virtio::VirtioMmio::kSize),
      .size = virtio::VirtioMmio::kSize,
      .line = acpi ? kFirstLine + index % kLines : kIsaLines[index % kLines]};
}

std::vector<boot::acpi::MmioDevice> virtio_places(const MachineDescription& description) {
  std::vector<boot::acpi::MmioDevice> places;
  const size_t count = count_virtio(description);
  for (unsigned i = 0; i < count; ++i)
    if (auto place = virtio_place(i, description.acpi)) places.push_back(*place);
  return places;
}

std::string kernel_command_line(const MachineDescription& description) {
  auto line = description.append;
  if (description.acpi || !description.microvm.auto_kernel_command_line) return line;
  for (const auto& device : virtio_places(description))
    line += fmt::format("{}virtio_mmio.device={}@{:#x}:{}", line.empty() ? "" : " ", device.size,
                        device.base, device.line);
  return line;
}

bool has_mp_table(const MachineDescription& description) {
  return !has_pci(description) && !description.acpi;
}

boot::mp::Board mp_board(const MachineDescription& description,
                         std::span<const uint32_t> apic_ids) {
  // The lines of more than eight devices are shared, and an edge would get lost behind another
  // device's level.
  const auto lines = std::min<size_t>(count_virtio(description), kIsaLines.size());
  return {.apic_ids = apic_ids,
          .pic = description.microvm.pic,
          .pit = description.pit,
          .level_lines = std::span(kIsaLines).first(lines)};
}

Result<> check_microvm(const MachineDescription& description) {
  if (description.type != "microvm") return {};
  if (description.kernel.empty())
    return fail(
        "board microvm starts a kernel, and -kernel is missing; boards pc and q35 start firmware");
  if (boots_firmware(description))
    return fail("board microvm starts a kernel without firmware; leave -bios and pflash out");
  return {};
}

}  // namespace limen::machine
