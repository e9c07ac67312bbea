// The USB controller and what is plugged into its ports.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/nearest.h"
#include "block/scsi/cd.h"
#include "block/scsi/disk.h"
#include "machine/device_factory.h"
#include "usb/hid/keyboard.h"
#include "usb/hid/pointer.h"
#include "usb/mass_storage.h"
#include "usb/xhci/xhci.h"

namespace limen::machine {

Result<> DeviceFactory::create_xhci(const DeviceDescription& description,
                                    const DeviceProperties& properties) {
  usb::XhciProperties xhci;
  xhci.name = properties.text("id", description.driver);
  const auto number = [&](const char* name, unsigned otherwise) {
    return static_cast<unsigned>(properties.number(name, otherwise));
  };
  xhci.usb2_ports = number("p2", xhci.usb2_ports);
  xhci.usb3_ports = number("p3", xhci.usb3_ports);
  xhci.slots = number("slots", xhci.slots);
  xhci.interrupters = number("intrs", xhci.interrupters);
  auto controller = LIMEN_TRY(usb::Xhci::create(xhci, board_.memory_, board_.loop_));
  auto* const raw = controller.get();
  LIMEN_TRY(add_function(properties, std::move(controller)));
  // Of a nameless controller "usb-bus.0", and of those that follow "usb-bus.1" and on.
  const auto id = properties.text("id");
  const unsigned index = usb_buses_made_++;
  usb_buses_.push_back({id.empty() ? fmt::format("usb-bus.{}", index) : id + ".0", index, raw});
  return {};
}

Result<DeviceFactory::UsbBus*> DeviceFactory::find_usb_bus(const DeviceProperties& properties) {
  if (usb_buses_.empty())
    return fail("No 'usb-bus' bus found for device '{}': add -device qemu-xhci, or -usb", driver_);
  const auto wanted = properties.text("bus");
  if (!wanted.empty()) {
    std::vector<std::string_view> names;
    for (auto& bus : usb_buses_) {
      if (bus.name == wanted) return &bus;
      names.push_back(bus.name);
    }
    return fail("Bus '{}' not found{}", wanted, choice_hint(wanted, names));
  }
  // The first with a free port.
  for (auto& bus : usb_buses_)
    for (unsigned connector = 1; connector <= bus.controller->connectors(); ++connector)
      if (bus.controller->device(connector) == nullptr) return &bus;
  return &usb_buses_.front();
}

Result<DeviceFactory::UsbUnit*> DeviceFactory::add_usb_device(
    const DeviceProperties& properties, std::unique_ptr<usb::UsbDevice> device) {
  auto* bus = LIMEN_TRY(find_usb_bus(properties));
  auto* const raw = device.get();
  const auto connector = LIMEN_TRY(bus->controller->plug(
      std::move(device), static_cast<unsigned>(properties.number("port", 0))));
  usb_units_.push_back({properties.text("id"), bus->controller, connector, raw});
  return &usb_units_.back();
}

Result<> DeviceFactory::create_usb_hid(const DeviceDescription&,
                                       const DeviceProperties& properties) {
  const usb::HidProperties hid{.serial = properties.text("serial"),
                               .high_speed = properties.number("usb_version", 2) == 2};
  std::unique_ptr<usb::UsbDevice> device;
  if (driver_ == "usb-kbd")
    device = std::make_unique<usb::Keyboard>(hid, board_.loop_, board_.input_);
  else
    device =
        std::make_unique<usb::Pointer>(driver_ == "usb-tablet", hid, board_.loop_, board_.input_);
  static_cast<void>(LIMEN_TRY(add_usb_device(properties, std::move(device))));
  return {};
}

Result<> DeviceFactory::create_usb_storage(const DeviceDescription&,
                                           const DeviceProperties& properties) {
  static_cast<void>(LIMEN_TRY(find_usb_bus(properties)));
  const auto id = properties.text("drive");
  if (id.empty()) return fail("drive property not set");
  const auto named = std::ranges::find_if(board_.drives_, [&](const Drive& drive) {
    return drive.description.id == id || drive.description.node_name == id;
  });
  std::unique_ptr<block::scsi::LogicalUnit> unit;
  Drive* drive = nullptr;
  if (named != board_.drives_.end() && named->description.cdrom) {
    drive = LIMEN_TRY(take_cd_drive(properties));
    auto cd = LIMEN_TRY(make_cd(properties, *drive, "QEMU CD-ROM"));
    drive->cd = cd.get();
    unit = std::move(cd);
  } else {
    drive = LIMEN_TRY(take_disk(properties));
    const auto disk = LIMEN_TRY(scsi_disk_properties(properties, *drive));
    unit = LIMEN_TRY(block::scsi::Disk::create(disk, *drive->image));
  }
  auto* const raw = unit.get();
  const auto* added = LIMEN_TRY(add_usb_device(
      properties, std::make_unique<usb::MassStorage>(
                      std::move(unit), properties.text("serial", drive->description.serial))));
  usb_units_.back().unit = raw;
  note_boot(properties, card_path("usb", *added->controller) +
                            fmt::format("/storage@{:x}/channel@0/disk@0,0", added->connector));
  attach(*drive, properties, raw);
  drive->resized = [raw] { raw->attention(block::scsi::sense::kCapacityChanged); };
  return {};
}

// --- What comes and goes ------------------------------------------------------------------------

Result<> DeviceFactory::plug_usb(const DeviceDescription& description) {
  const DeviceProperties properties(description);
  if (const auto id = properties.text("id");
      !id.empty() && std::ranges::find(usb_units_, id, &UsbUnit::id) != usb_units_.end())
    return fail("Duplicate device ID '{}'", id);
  return create(description);
}

bool DeviceFactory::unplug_usb(const std::string& id) {
  const auto found = std::ranges::find(usb_units_, id, &UsbUnit::id);
  if (found == usb_units_.end()) return false;
  const auto unit = std::exchange(*found, {});
  usb_units_.erase(found);
  unit.controller->unplug(unit.connector).reset();
  if (unit.unit != nullptr) board_.release_drives(unit.unit);
  return true;
}

void DeviceFactory::forget_usb(const pci::PciFunction& controller) {
  std::erase_if(usb_units_, [&](const UsbUnit& unit) {
    if (unit.controller != &controller) return false;
    unit.controller->unplug(unit.connector).reset();
    if (unit.unit != nullptr) board_.release_drives(unit.unit);
    return true;
  });
  std::erase_if(usb_buses_, [&](const UsbBus& bus) { return bus.controller == &controller; });
}

std::vector<UsbInformation> DeviceFactory::usb_devices() const {
  std::vector<UsbInformation> all;
  for (const auto& bus : usb_buses_)
    for (unsigned connector = 1; connector <= bus.controller->connectors(); ++connector) {
      const auto unit = std::ranges::find_if(usb_units_, [&](const UsbUnit& each) {
        return each.controller == bus.controller && each.connector == connector;
      });
      if (unit == usb_units_.end()) continue;
      all.push_back({.bus = bus.index,
                     .address = bus.controller->address(connector),
                     .port = connector,
                     .speed = std::string(usb::megabits(unit->device->speed())),
                     .product = unit->device->description().name,
                     .id = unit->id});
    }
  return all;
}

}  // namespace limen::machine
