// What firmware boots from: expansion ROMs of cards, and the order that bootindex= asks for.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "machine/device_factory.h"
#include "machine/firmware.h"
#include "pci/root_port.h"
#include "virtio/scsi/scsi.h"
#include "virtio/virtio_pci.h"

namespace limen::machine {
namespace {

/// What a card is called in the paths of Open Firmware, which firmware looks for (the IEEE 1275 PCI
/// binding, as QEMU names them), with what follows its own node; and its ROM as Debian has it.
struct CardFacts {
  std::string_view driver;
  std::string_view node;
  std::string_view unit;
  std::string_view rom;
};
constexpr std::array kCards = {
    CardFacts{"virtio-blk-pci", "scsi", "/disk@0,0", ""},
    CardFacts{"nvme", "pci8086,5845", "/namespace@1,0", ""},
    CardFacts{"e1000", "ethernet", "/ethernet-phy@0", "efi-e1000.rom"},
    CardFacts{"virtio-net-pci", "ethernet", "/ethernet-phy@0", "efi-virtio.rom"},
    CardFacts{"VGA", "display", "", "vgabios-stdvga.bin"},
    CardFacts{"bochs-display", "display", "", "vgabios-bochs-display.bin"},
    CardFacts{"virtio-vga", "display", "", "vgabios-virtio.bin"},
};

const CardFacts* facts_of(std::string_view driver) {
  const auto found = std::ranges::find(kCards, driver, &CardFacts::driver);
  return found == kCards.end() ? nullptr : &*found;
}

std::string node(std::string_view name, const pci::PciFunction& function) {
  const auto at = function.address();
  return at.function == 0 ? fmt::format("/{}@{:x}", name, at.device)
                          : fmt::format("/{}@{:x},{:x}", name, at.device, at.function);
}

}  // namespace

void DeviceFactory::note_boot(const DeviceProperties& properties, const std::string& path) {
  if (properties.text("bootindex").empty()) return;
  boot_paths_.emplace(properties.number("bootindex", 0), path);
}

std::string DeviceFactory::card_path(std::string_view name,
                                     const pci::PciFunction& function) const {
  std::string path = "/pci@i0cf8";
  const auto* plugged = [&]() -> const Board::Plugged* {
    for (const auto& each : board_.plugged_)
      if (each.function == &function) return &each;
    return nullptr;
  }();
  if (plugged != nullptr) path += node("pci-bridge", *plugged->port);
  return path + node(name, function);
}

void DeviceFactory::note_card(const DeviceProperties& properties,
                              const pci::PciFunction& function) {
  if (const auto* card = facts_of(driver_); card != nullptr)
    note_boot(properties, card_path(card->node, function) + std::string(card->unit));
}

void DeviceFactory::note_scsi_unit(const DeviceProperties& properties, const virtio::Scsi& adapter,
                                   unsigned target, unsigned number) {
  for (const auto& device : board_.devices_)
    if (auto* card = dynamic_cast<virtio::VirtioPci*>(device.get());
        card != nullptr && &card->device() == &adapter)
      note_boot(properties, card_path("scsi", *card) +
                                fmt::format("/channel@0/disk@{:x},{:x}", target, number));
}

void DeviceFactory::note_ide_drive(const DeviceProperties& properties,
                                   const pci::PciFunction& controller, unsigned channel,
                                   unsigned unit) {
  note_boot(properties,
            card_path("ide", controller) + fmt::format("/drive@{:x}/disk@{:x}", channel, unit));
}

std::string DeviceFactory::boot_order(bool strict) const {
  std::string order;
  for (const auto& [index, path] : boot_paths_) order += path + "\n";
  if (strict) order += "HALT\n";
  return order;
}

Result<> DeviceFactory::give_rom(const DeviceProperties& properties, pci::PciFunction& function) {
  // A card that is plugged in later is not booted from, and its ROM would have no place.
  if (!board_.firmware_ || complete_) return {};
  const auto* card = facts_of(driver_);
  const auto name = properties.text("romfile", card != nullptr ? card->rom : std::string_view());
  if (name.empty()) return {};
  const auto content = LIMEN_TRY(read_firmware(LIMEN_TRY(find_firmware(name)), kMostRom));
  const auto size = std::bit_ceil(std::max<uint64_t>(content.size(), memory::kPageSize));
  const auto rom = LIMEN_TRY(board_.memory_.reserve(size));
  std::memcpy(rom.data(), content.data(), content.size());
  function.set_rom(rom);
  return {};
}

}  // namespace limen::machine
