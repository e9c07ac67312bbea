// Disk controllers that are not virtio's, and the drives on their buses.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/nearest.h"
#include "machine/device_factory.h"
#include "machine/ide_places.h"
#include "storage/ahci/ahci.h"
#include "storage/ata/disk.h"
#include "storage/ata/packet_drive.h"
#include "storage/ide/piix3_ide.h"
#include "storage/nvme/nvme.h"

namespace limen::machine {

Result<> DeviceFactory::create_board_storage(const MachineDescription& description) {
  const auto places = ide_places(description.type);
  if (places.buses == 0) return {};
  const bool pc = places.units == storage::IdeChannel::kUnits;
  // Of the board, so not among the devices that -device made.
  const DeviceDescription controller{.driver = pc ? "piix3-ide" : "ich9-ahci",
                                     .properties = {{"addr", pc ? "0x1.0x1" : "0x1f.0x2"}}};
  return pc ? create_piix3_ide(controller, DeviceProperties(controller))
            : create_ahci(controller, DeviceProperties(controller));
}

Result<> DeviceFactory::create_ide_drive(const DriveDescription& drive) {
  return create({.driver = drive.cdrom ? "ide-cd" : "ide-hd",
                 .properties = {{"drive", drive.id},
                                {"bus", fmt::format("ide.{}", *drive.bus)},
                                {"unit", std::to_string(*drive.unit)}}});
}

// --- Controllers --------------------------------------------------------------------------------

/// Its buses are "ID.0" and so on; those of a nameless one are "ide.0" and on, through all of them.
Result<> DeviceFactory::add_ide_controller(const DeviceProperties& properties,
                                           std::unique_ptr<pci::PciFunction> function,
                                           std::vector<IdeBus> buses) {
  LIMEN_TRY(add_function(properties, std::move(function)));
  const auto id = properties.text("id");
  for (size_t i = 0; i < buses.size(); ++i) {
    buses[i].name =
        id.empty() ? fmt::format("ide.{}", ide_buses_named_++) : fmt::format("{}.{}", id, i);
    ide_buses_.push_back(std::move(buses[i]));
  }
  return {};
}

Result<> DeviceFactory::create_ahci(const DeviceDescription& description,
                                    const DeviceProperties& properties) {
  using storage::Ahci;
  auto function = std::make_unique<Ahci>(properties.text("id", description.driver), board_.memory_);
  std::vector<IdeBus> buses;
  buses.reserve(Ahci::kPorts);
  for (unsigned port = 0; port < Ahci::kPorts; ++port)
    buses.push_back({.name = {},
                     .controller = function.get(),
                     .channel = port,
                     .serial_ata = true,
                     .attach =
                         [ahci = function.get(), port](unsigned, auto device) {
                           return ahci->attach_drive(port, std::move(device));
                         },
                     .users = {nullptr}});
  return add_ide_controller(properties, std::move(function), std::move(buses));
}

Result<> DeviceFactory::create_piix3_ide(const DeviceDescription& description,
                                         const DeviceProperties& properties) {
  using storage::Piix3Ide;
  for (const auto& bus : ide_buses_)
    if (!bus.serial_ata) return fail("there is an IDE controller at its ports already");
  std::array<irq::InterruptLine, Piix3Ide::kChannels> lines;
  for (unsigned i = 0; i < lines.size(); ++i)
    lines[i] = board_.interrupts_->router().connect(Piix3Ide::kIsaLines[i]);
  auto function = std::make_unique<Piix3Ide>(properties.text("id", description.driver),
                                             board_.memory_, board_.ports_, lines);
  std::vector<IdeBus> buses;
  buses.reserve(Piix3Ide::kChannels);
  for (unsigned channel = 0; channel < Piix3Ide::kChannels; ++channel)
    buses.push_back({.name = {},
                     .controller = function.get(),
                     .channel = channel,
                     .serial_ata = false,
                     .attach =
                         [ide = function.get(), channel](unsigned unit, auto device) {
                           return ide->attach_drive(channel, unit, std::move(device));
                         },
                     .users = {nullptr, nullptr}});
  return add_ide_controller(properties, std::move(function), std::move(buses));
}

// --- Drives -------------------------------------------------------------------------------------

Result<DeviceFactory::IdePlace> DeviceFactory::find_ide_place(const DeviceProperties& properties) {
  const auto wanted = properties.text("bus");
  if (ide_buses_.empty()) return fail("No 'IDE' bus found for device: add -device ahci");
  const auto is_free = [](const void* user) { return user == nullptr; };
  auto bus = ide_buses_.begin();
  if (wanted.empty()) {
    // The first with room.
    bus = std::ranges::find_if(
        ide_buses_, [&](const IdeBus& each) { return std::ranges::any_of(each.users, is_free); });
    if (bus == ide_buses_.end()) return fail("all IDE buses are full: add -device ahci");
  } else {
    bus = std::ranges::find(ide_buses_, wanted, &IdeBus::name);
    if (bus == ide_buses_.end()) {
      std::vector<std::string_view> names;
      names.reserve(ide_buses_.size());
      for (const auto& each : ide_buses_) names.push_back(each.name);
      return fail("Bus '{}' not found{}", wanted, choice_hint(wanted, names));
    }
  }
  const auto units = bus->users.size();
  const auto first_free = std::ranges::find_if(bus->users, is_free);
  const auto unit =
      properties.number("unit", static_cast<uint64_t>(first_free - bus->users.begin()));
  if (unit >= units)
    return fail("Can't create IDE unit {}, bus supports only {} units", unit, units);
  if (bus->users[unit] != nullptr) return fail("IDE unit {} is in use", unit);
  return IdePlace{&*bus, static_cast<unsigned>(unit)};
}

Result<storage::ata::Identity> DeviceFactory::ata_identity(const DeviceProperties& properties,
                                                           const Drive& drive,
                                                           std::string_view model,
                                                           bool serial_ata) {
  storage::ata::Identity identity;
  ++ide_drives_made_;
  identity.model = properties.text("model", model);
  identity.serial = properties.text("serial", drive.description.serial);
  if (identity.serial.empty()) identity.serial = fmt::format("QM{:05}", ide_drives_made_);
  identity.firmware = properties.text("ver", identity.firmware);
  identity.wwn = properties.number("wwn", 0);
  identity.serial_ata = serial_ata;
  return identity;
}

Result<> DeviceFactory::create_ide_disk(const DeviceDescription&,
                                        const DeviceProperties& properties) {
  const auto place = LIMEN_TRY(find_ide_place(properties));
  if (properties.text("drive").empty()) return fail("No drive specified");
  if (properties.number("logical_block_size", 512) != 512)
    return fail("logical_block_size must be 512 for IDE");
  auto* drive = LIMEN_TRY(take_disk(properties));
  storage::ata::DiskProperties disk;
  disk.identity =
      LIMEN_TRY(ata_identity(properties, *drive, "QEMU HARDDISK", place.bus->serial_ata));
  disk.physical_block_size =
      static_cast<uint32_t>(properties.number("physical_block_size", disk.physical_block_size));
  disk.rotation_rate = static_cast<uint16_t>(properties.number("rotation_rate", 0));
  disk.write_cache = write_cache(properties, drive->description);
  disk.cylinders = static_cast<uint16_t>(properties.number("cyls", 0));
  disk.heads = static_cast<uint16_t>(properties.number("heads", 0));
  disk.sectors = static_cast<uint16_t>(properties.number("secs", 0));
  auto device = LIMEN_TRY(storage::ata::Disk::create(disk, *drive->image));
  const void* const user = device.get();
  LIMEN_TRY(place.bus->attach(place.unit, std::move(device)));
  place.bus->users[place.unit] = user;
  note_ide_drive(properties, *place.bus->controller, place.bus->channel, place.unit);
  attach(*drive, properties, user);
  return {};
}

Result<> DeviceFactory::create_ide_cd(const DeviceDescription&,
                                      const DeviceProperties& properties) {
  const auto place = LIMEN_TRY(find_ide_place(properties));
  auto* drive = LIMEN_TRY(take_cd_drive(properties));
  const auto identity =
      LIMEN_TRY(ata_identity(properties, *drive, "QEMU DVD-ROM", place.bus->serial_ata));
  auto cd = LIMEN_TRY(make_cd(properties, *drive, "QEMU DVD-ROM"));
  drive->cd = cd.get();
  auto device = LIMEN_TRY(storage::ata::PacketDrive::create(identity, std::move(cd)));
  const void* const user = device.get();
  LIMEN_TRY(place.bus->attach(place.unit, std::move(device)));
  place.bus->users[place.unit] = user;
  note_ide_drive(properties, *place.bus->controller, place.bus->channel, place.unit);
  attach(*drive, properties, user);
  return {};
}

Result<> DeviceFactory::create_nvme(const DeviceDescription& description,
                                    const DeviceProperties& properties) {
  auto* drive = LIMEN_TRY(take_disk(properties));
  storage::NvmeProperties nvme;
  nvme.name = properties.text("id", description.driver);
  nvme.serial = properties.text("serial", drive->description.serial);
  nvme.queue_pairs = static_cast<unsigned>(properties.number("max_ioqpairs", nvme.queue_pairs));
  nvme.vectors = static_cast<unsigned>(properties.number("msix_qsize", nvme.vectors));
  nvme.largest_transfer = static_cast<uint8_t>(properties.number("mdts", nvme.largest_transfer));
  nvme.logical_block_size =
      static_cast<uint32_t>(properties.number("logical_block_size", nvme.logical_block_size));
  nvme.physical_block_size = static_cast<uint32_t>(properties.number(
      "physical_block_size", std::max(nvme.physical_block_size, nvme.logical_block_size)));
  nvme.write_cache = write_cache(properties, drive->description);
  auto function = LIMEN_TRY(storage::Nvme::create(nvme, board_.memory_, *drive->image));
  auto* const controller = function.get();
  LIMEN_TRY(add_function(properties, std::move(function)));
  attach(*drive, properties, controller);
  drive->resized = [controller] { controller->resized(); };
  return {};
}

}  // namespace limen::machine
