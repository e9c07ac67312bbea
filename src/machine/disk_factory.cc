// Disks of all kinds, and the adapters that they plug into.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/nearest.h"
#include "block/scsi/cd.h"
#include "block/scsi/disk.h"
#include "machine/device_factory.h"
#include "virtio/block/block.h"
#include "virtio/scsi/scsi.h"

namespace limen::machine {
namespace {

constexpr unsigned kMostQueues = 64;

block::scsi::Identity identity_of(const DeviceProperties& properties, const Drive& drive,
                                  std::string_view product) {
  block::scsi::Identity identity;
  identity.vendor = properties.text("vendor", identity.vendor);
  identity.product = properties.text("product", product);
  identity.revision = properties.text("ver", identity.revision);
  identity.serial = properties.text("serial", drive.description.serial);
  // Without a serial number the guest knows the unit by its drive's name, as under QEMU, where a
  // node is none.
  const auto& name = identity.serial.empty() && !drive.description.is_node() ? drive.description.id
                                                                             : identity.serial;
  identity.device_id = properties.text("device_id", name);
  identity.wwn = properties.number("wwn", 0);
  return identity;
}

}  // namespace

bool DeviceFactory::write_cache(const DeviceProperties& properties, const DriveDescription& drive) {
  const auto text = properties.text("write-cache", "auto");
  if (text != "auto") return parse_boolean(text).value_or(true);
  return drive.cache != "writethrough" && drive.cache != "directsync";
}

Result<Drive*> DeviceFactory::take_drive(const std::string& id) {
  std::vector<std::string_view> ids;
  for (auto& drive : board_.drives_) {
    if (drive.description.id == id || drive.description.node_name == id) {
      if (drive.in_use) return fail("Drive '{}' is already in use by another device", id);
      if (!drive.description.parent.empty())
        return fail("the node '{}' is another node's already: that of '{}'", id,
                    drive.description.parent);
      // One that was let go by what it was a part of.
      if (drive.image == nullptr && drive.description.is_node())
        LIMEN_TRY(board_.opener_->open_again(drive));
      drive.in_use = true;
      return &drive;
    }
    if (!drive.description.id.empty()) ids.push_back(drive.description.id);
  }
  return fail("there is no drive '{}'{}", id, choice_hint(id, ids));
}

Result<Drive*> DeviceFactory::take_disk(const DeviceProperties& properties) {
  const auto id = properties.text("drive");
  if (id.empty()) return fail("drive property not set");
  auto* drive = LIMEN_TRY(take_drive(id));
  if (drive->image == nullptr) return fail("Device needs media, but drive is empty");
  set_error_actions(*drive, properties);
  return drive;
}

/// The device is there: the drive knows it from now on.
void DeviceFactory::attach(Drive& drive, const DeviceProperties& properties, const void* user,
                           std::string_view below) const {
  drive.user = user;
  drive.device_id = properties.text("id");
  drive.device_path = path_ + std::string(below);
}

void DeviceFactory::set_error_actions(const Drive& drive, const DeviceProperties& properties) {
  if (drive.errors == nullptr) return;
  drive.errors->set_actions(
      block::parse_error_action(properties.text("rerror")).value_or(drive.errors->on_read()),
      block::parse_error_action(properties.text("werror")).value_or(drive.errors->on_write()));
}

Result<LoopThread*> DeviceFactory::find_io_thread(const DeviceProperties& properties) {
  const auto id = properties.text("iothread");
  if (id.empty()) return nullptr;
  std::vector<std::string_view> ids;
  for (auto& each : board_.io_threads_) {
    if (each.id == id) return each.thread.get();
    ids.push_back(each.id);
  }
  return fail("there is no I/O thread '{}'{}", id, choice_hint(id, ids));
}

Result<> DeviceFactory::create_block(const DeviceDescription& description,
                                     const DeviceProperties& properties) {
  auto* drive = LIMEN_TRY(take_disk(properties));
  virtio::BlockProperties block;
  block.serial = properties.text("serial", drive->description.serial);
  // As many as there are processors, so that each has its own, as in QEMU.
  block.num_queues =
      static_cast<unsigned>(properties.number("num-queues", std::min(vcpus_, kMostQueues)));
  block.queue_size = static_cast<uint16_t>(properties.number("queue-size", block.queue_size));
  block.write_cache = write_cache(properties, drive->description);
  block.discard = properties.boolean("discard", block.discard);
  block.write_zeroes = properties.boolean("write-zeroes", block.write_zeroes);
  block.config_wce = properties.boolean("config-wce", block.config_wce);
  block.logical_block_size =
      static_cast<uint32_t>(properties.number("logical_block_size", block.logical_block_size));
  block.physical_block_size = static_cast<uint32_t>(properties.number(
      "physical_block_size", std::max(block.physical_block_size, block.logical_block_size)));
  block.thread = LIMEN_TRY(find_io_thread(properties));
  auto device = LIMEN_TRY(virtio::Block::create(block, *drive->image));
  auto* const disk = device.get();
  LIMEN_TRY(add_virtio(description, properties, std::move(device)));
  attach(*drive, properties, disk, "/virtio-backend");
  drive->resized = [disk] { disk->resized(); };
  return {};
}

// --- SCSI ---------------------------------------------------------------------------------------

Result<> DeviceFactory::create_scsi_bus(const DeviceDescription& description,
                                        const DeviceProperties& properties) {
  virtio::ScsiProperties scsi;
  scsi.num_queues =
      static_cast<unsigned>(properties.number("num_queues", std::min(vcpus_, kMostQueues)));
  scsi.queue_size = static_cast<uint16_t>(properties.number("virtqueue_size", scsi.queue_size));
  scsi.max_sectors = static_cast<uint32_t>(properties.number("max_sectors", scsi.max_sectors));
  scsi.commands_per_unit =
      static_cast<uint32_t>(properties.number("cmd_per_lun", scsi.commands_per_unit));
  scsi.hotplug = properties.boolean("hotplug", scsi.hotplug);
  scsi.parameter_change = properties.boolean("param_change", scsi.parameter_change);
  scsi.thread = LIMEN_TRY(find_io_thread(properties));
  auto device = LIMEN_TRY(virtio::Scsi::create(scsi));
  auto* adapter = device.get();
  LIMEN_TRY(add_virtio(description, properties, std::move(device)));
  // A nameless adapter's bus is "scsi.0", "scsi.1" and so on.
  const auto id = properties.text("id");
  auto name = id.empty() ? fmt::format("scsi.{}", scsi_buses_.size()) : id + ".0";
  scsi_buses_.push_back({std::move(name), adapter, scsi.thread, scsi.hotplug});
  return {};
}

Result<DeviceFactory::ScsiBus*> DeviceFactory::find_scsi_bus(const DeviceProperties& properties) {
  const auto wanted = properties.text("bus");
  if (scsi_buses_.empty())
    return fail("No 'SCSI' bus found for device: add -device virtio-scsi-pci");
  if (wanted.empty()) return &scsi_buses_.front();
  std::vector<std::string_view> names;
  for (auto& bus : scsi_buses_) {
    if (bus.name == wanted) return &bus;
    names.push_back(bus.name);
  }
  return fail("Bus '{}' not found{}", wanted, choice_hint(wanted, names));
}

Result<> DeviceFactory::add_scsi_unit(const DeviceProperties& properties, Drive& drive,
                                      std::unique_ptr<block::scsi::LogicalUnit> unit) {
  auto* bus = LIMEN_TRY(find_scsi_bus(properties));
  const auto number = static_cast<unsigned>(properties.number("lun", 0));
  const auto target = static_cast<unsigned>(properties.number(
      "scsi-id", properties.text("lun").empty() ? bus->adapter->free_target() : 0));
  if (target >= virtio::Scsi::kMostTargets) return fail("no free target");
  auto* const added = unit.get();
  auto* const adapter = bus->adapter;
  LIMEN_TRY(adapter->add_unit(target, number, std::move(unit)));
  scsi_units_.push_back({properties.text("id"), adapter, target, number, added});
  note_scsi_unit(properties, *adapter, target, number);
  attach(drive, properties, added);
  drive.resized = [adapter, target, number, added] {
    added->attention(block::scsi::sense::kCapacityChanged);
    adapter->unit_changed(target, number, block::scsi::sense::kCapacityChanged);
  };
  return {};
}

Result<block::scsi::DiskProperties> DeviceFactory::scsi_disk_properties(
    const DeviceProperties& properties, const Drive& drive) {
  block::scsi::DiskProperties disk;
  disk.identity = identity_of(properties, drive, "QEMU HARDDISK");
  disk.logical_block_size =
      static_cast<uint32_t>(properties.number("logical_block_size", disk.logical_block_size));
  disk.physical_block_size = static_cast<uint32_t>(properties.number(
      "physical_block_size", std::max(disk.physical_block_size, disk.logical_block_size)));
  disk.rotation_rate =
      static_cast<uint16_t>(properties.number("rotation_rate", disk.rotation_rate));
  disk.removable = properties.boolean("removable", false);
  disk.write_cache = write_cache(properties, drive.description);
  return disk;
}

Result<> DeviceFactory::create_scsi_disk(const DeviceDescription&,
                                         const DeviceProperties& properties) {
  auto* bus = LIMEN_TRY(find_scsi_bus(properties));
  auto* drive = LIMEN_TRY(take_disk(properties));
  const auto disk = LIMEN_TRY(scsi_disk_properties(properties, *drive));
  if (bus->thread != nullptr) drive->image->run_on(*bus->thread);
  return add_scsi_unit(properties, *drive,
                       LIMEN_TRY(block::scsi::Disk::create(disk, *drive->image)));
}

Result<Drive*> DeviceFactory::take_cd_drive(const DeviceProperties& properties) {
  // Without a drive it has one of its own, which is empty.
  Drive* drive = nullptr;
  if (const auto id = properties.text("drive"); !id.empty()) {
    drive = LIMEN_TRY(take_drive(id));
  } else {
    drive = &board_.drives_.emplace_back(
        Drive{.description = {.interface = "none", .read_only = true, .cdrom = true}});
    drive->in_use = true;
  }
  set_error_actions(*drive, properties);
  return drive;
}

Result<std::unique_ptr<block::scsi::Cd>> DeviceFactory::make_cd(const DeviceProperties& properties,
                                                                const Drive& drive,
                                                                std::string_view product) {
  return block::scsi::Cd::create(identity_of(properties, drive, product), drive.image.get(),
                                 [moved = board_.callbacks_.tray_moved,
                                  name = drive.description.is_node() ? "" : drive.description.id,
                                  device = properties.text("id", path_)](bool open) {
                                   if (moved) moved(name, device, open);
                                 });
}

Result<> DeviceFactory::create_scsi_cd(const DeviceDescription&,
                                       const DeviceProperties& properties) {
  auto* bus = LIMEN_TRY(find_scsi_bus(properties));
  auto* drive = LIMEN_TRY(take_cd_drive(properties));
  if (bus->thread != nullptr && drive->image != nullptr) drive->image->run_on(*bus->thread);
  drive->thread = bus->thread;
  auto cd = LIMEN_TRY(make_cd(properties, *drive, "QEMU CD-ROM"));
  drive->cd = cd.get();
  return add_scsi_unit(properties, *drive, std::move(cd));
}

// --- Units that come and go ---------------------------------------------------------------------

Result<> DeviceFactory::plug_scsi(const DeviceDescription& description) {
  const DeviceProperties properties(description);
  auto* bus = LIMEN_TRY(find_scsi_bus(properties));
  if (!bus->hotplug) return fail("Bus '{}' does not support hotplugging", bus->name);
  if (const auto id = properties.text("id");
      !id.empty() && std::ranges::find(scsi_units_, id, &ScsiUnit::id) != scsi_units_.end())
    return fail("Duplicate device ID '{}'", id);
  return create(description);
}

bool DeviceFactory::unplug_scsi(const std::string& id) {
  const auto found = std::ranges::find(scsi_units_, id, &ScsiUnit::id);
  if (found == scsi_units_.end()) return false;
  const auto unit = std::exchange(*found, {});
  scsi_units_.erase(found);
  if (auto removed = unit.adapter->remove_unit(unit.target, unit.number); !removed)
    log::error("{}", removed.error().message);
  board_.release_drives(unit.unit);
  return true;
}

void DeviceFactory::forget_adapter(const virtio::VirtioDevice& device) {
  std::erase_if(scsi_units_, [&](const ScsiUnit& unit) {
    if (unit.adapter != &device) return false;
    board_.release_drives(unit.unit);
    return true;
  });
  std::erase_if(scsi_buses_, [&](const ScsiBus& bus) { return bus.adapter == &device; });
}

}  // namespace limen::machine
