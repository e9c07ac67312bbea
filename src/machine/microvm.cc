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
/// Where nothing tells a kernel of the I/O APIC, it has the ISA interrupts alone.
constexpr std::array<unsigned, kLines> kIsaLines = {5, 10, 11, 9, 12, 7, 14, 15};

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
  if (has_pci(description)) return places;
  auto count = std::ranges::count_if(description.devices, [](const DeviceDescription& device) {
    const auto* found = find_device(resolve_driver(device.driver, false));
    return found != nullptr && found->bus == kVirtioBus;
  });
  count += std::ranges::count(description.drives, "virtio", &DriveDescription::interface);
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
