// Devices that come and go while the machine runs, behind PCI Express root ports.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "machine/board.h"
#include "machine/device_factory.h"
#include "pci/root_port.h"
#include "virtio/balloon/balloon.h"
#include "virtio/console/console.h"
#include "virtio/scsi/scsi.h"
#include "virtio/virtio_pci.h"

namespace limen::machine {

Result<pci::PciBus*> DeviceFactory::bus_of(const DeviceProperties& properties,
                                           pci::RootPort*& port) {
  const auto name = properties.text("bus", board_.bus_->name());
  port = nullptr;
  if (name == board_.bus_->name() || name == "pci.0") return board_.bus_.get();
  for (pci::PciFunction* function : board_.bus_->functions())
    if (auto* found = dynamic_cast<pci::RootPort*>(function);
        found != nullptr && found->name() == name) {
      port = found;
      return &found->secondary();
    }
  return fail("Bus '{}' not found", name);
}

Result<> DeviceFactory::add_function(const DeviceProperties& properties,
                                     std::unique_ptr<pci::PciFunction> function) {
  pci::RootPort* port = nullptr;
  auto* bus = LIMEN_TRY(bus_of(properties, port));
  LIMEN_TRY(give_rom(properties, *function));
  LIMEN_TRY(bus->attach(*function, properties.text("addr")));
  if (port != nullptr)
    board_.plugged_.push_back(
        {properties.text("id"), properties.text("drive"), function.get(), port});
  note_card(properties, *function);
  board_.devices_.push_back(std::move(function));
  return {};
}

Result<> DeviceFactory::create_root_port(const DeviceDescription& description,
                                         const DeviceProperties& properties) {
  pci::RootPort* above = nullptr;
  static_cast<void>(LIMEN_TRY(bus_of(properties, above)));
  if (above != nullptr) return fail("a root port is on bus {} alone", board_.bus_->name());
  const auto id = properties.text("id", description.driver);
  auto port = std::make_unique<pci::RootPort>(
      pci::RootPort::Config{.name = id,
                            .port = static_cast<uint8_t>(properties.number("port", 0)),
                            .chassis = static_cast<uint8_t>(properties.number("chassis", 0)),
                            .slot = static_cast<uint16_t>(properties.number("slot", 0))},
      pci::BusConnections{&board_.ports_, &board_.mmio_, &board_.interrupts_->messages(),
                          &board_.memory_});
  port->set_power_off_listener([this, id] { board_.callbacks_.slot_powered_off(id); });
  return add_function(properties, std::move(port));
}

Result<> DeviceFactory::plug(const DeviceDescription& description) {
  LIMEN_TRY(check_device(description));
  if (is_display(find_device(description.driver)->driver))
    return fail("Device '{}' does not support hotplugging", description.driver);
  const DeviceProperties properties(description);
  if (find_device(description.driver)->bus == "SCSI") return plug_scsi(description);
  if (find_device(description.driver)->bus == "usb-bus") return plug_usb(description);
  if (find_device(description.driver)->bus == "IDE")
    return fail("Bus '{}' does not support hotplugging", properties.text("bus", "ide.0"));
  pci::RootPort* port = nullptr;
  auto* bus = LIMEN_TRY(bus_of(properties, port));
  if (port == nullptr) return fail("Bus '{}' does not support hotplugging", bus->name());
  if (port->occupied())
    return fail("slot 0 function 0 of bus '{}' is in use by {}", bus->name(),
                bus->functions().front()->name());
  if (const auto id = properties.text("id");
      !id.empty() &&
      std::ranges::find(board_.plugged_, id, &Board::Plugged::id) != board_.plugged_.end())
    return fail("Duplicate device ID '{}'", id);
  LIMEN_TRY(create(description));
  if (!port->occupied())
    return fail("'{}' cannot be plugged into bus '{}'", description.driver, bus->name());
  port->plugged();
  return {};
}

void DeviceFactory::forget(pci::PciFunction& function) {
  if (auto* card = dynamic_cast<virtio::VirtioPci*>(&function); card != nullptr) {
    auto* device = &card->device();
    for (const auto& bus : serial_buses_)
      if (bus.console == device)
        for (const auto& id : bus.characters) board_.characters_.give_back(id);
    std::erase_if(serial_buses_, [&](const SerialBus& bus) { return bus.console == device; });
    forget_adapter(*device);
  }
  forget_usb(function);
  for (const auto& bus : ide_buses_)
    if (bus.controller == &function)
      for (const void* user : bus.users)
        if (user != nullptr) board_.release_drives(user);
  std::erase_if(ide_buses_, [&](const IdeBus& bus) { return bus.controller == &function; });
  const auto mac = plugged_macs_.find(&function);
  if (mac == plugged_macs_.end()) return;
  macs_.erase(mac->second);
  plugged_macs_.erase(mac);
}

Result<> Board::plug(const DeviceDescription& description) {
  auto plugged = factory_->plug(description);
  // What a device took that then could not be made.
  if (!plugged) release_drives(nullptr);
  return plugged;
}

void Board::release_drives(const void* user) {
  for (auto& drive : drives_) {
    if (!drive.in_use || drive.user != user || drive.lent) continue;
    drive.in_use = false;
    drive.user = nullptr;
    drive.cd = nullptr;
    drive.thread = nullptr;
    drive.device_id = drive.device_path = {};
    drive.resized = {};
    // Limits are the device's where the drive is a node.
    if (drive.description.is_node() && drive.throttle != nullptr &&
        drive.description.node_driver != "throttle")
      if (auto lifted = opener_->set_limits(drive, {}, ""); !lifted)
        log::error("{}", lifted.error().message);
  }
  // Overlays that were made for the device go with it; what lies below is a node of its own again.
  const auto unowned = [](const Drive& drive) {
    return drive.description.implicit && !drive.in_use && drive.description.parent.empty();
  };
  for (auto found = std::ranges::find_if(drives_, unowned); found != drives_.end();
       found = std::ranges::find_if(drives_, unowned)) {
    const auto name = found->description.node_name;
    if (found->image != nullptr)
      if (auto drained = found->image->drain(); !drained)
        log::error("node '{}': {}", name, drained.error().message);
    drives_.erase(found);
    for (auto& drive : drives_)
      if (drive.description.parent == name) drive.description.parent.clear();
  }
  // The drive of an empty CD drive's own.
  std::erase_if(drives_,
                [](const Drive& drive) { return drive.description.id.empty() && !drive.in_use; });
}

Result<> Board::request_unplug(const std::string& id) {
  if (!id.empty() && (factory_->unplug_scsi(id) || factory_->unplug_usb(id))) {
    callbacks_.device_removed(id);
    return {};
  }
  const auto found = std::ranges::find(plugged_, id, &Plugged::id);
  if (id.empty() || found == plugged_.end()) {
    const bool there = std::ranges::any_of(
        bus_->functions(),
        [&](const pci::PciFunction* function) { return function->name() == id; });
    if (there) return fail("Bus '{}' does not support hotplugging", bus_->name());
    return fail("Device '{}' not found", id);
  }
  found->port->request_unplug();
  return {};
}

std::vector<UsbInformation> Board::usb_devices() const { return factory_->usb_devices(); }

std::string Board::remove_device(const std::string& port) {
  std::string id;
  for (auto each = plugged_.begin(); each != plugged_.end();) {
    if (each->port->name() != port) {
      ++each;
      continue;
    }
    auto* const slot = each->port;
    slot->secondary().detach(*each->function);
    if (auto* function = dynamic_cast<virtio::VirtioPci*>(each->function);
        function != nullptr && balloon_ != nullptr && &function->device() == balloon_)
      balloon_ = nullptr;
    const void* user = dynamic_cast<const void*>(each->function);
    // As a disk knows itself: a pointer to the whole of it.
    if (auto* virtio = dynamic_cast<virtio::VirtioPci*>(each->function); virtio != nullptr)
      user = dynamic_cast<const void*>(&virtio->device());
    factory_->forget(*each->function);
    std::erase_if(devices_, [&](const auto& device) { return device.get() == each->function; });
    if (user != nullptr) release_drives(user);
    id = each->id;
    each = plugged_.erase(each);
    slot->unplugged();
  }
  return id;
}

}  // namespace limen::machine
