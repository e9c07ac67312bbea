#include "monitor/disks.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "block/filters/measured.h"
#include "machine/machine.h"
#include "machine/q35_board.h"

namespace limen::monitor {
namespace {

/// QEMU's path of the device that has a drive.
std::string device_of(const machine::MachineDescription& description, const std::string& drive) {
  for (size_t i = 0; i < description.devices.size(); ++i) {
    const auto& properties = description.devices[i].properties;
    const auto its = properties.find("drive");
    if (its == properties.end() || its->second != drive) continue;
    const auto id = properties.find("id");
    const auto base = id != properties.end()
                          ? "/machine/peripheral/" + id->second
                          : fmt::format("/machine/peripheral-anon/device[{}]", i);
    return description.devices[i].driver.starts_with("virtio-blk") ? base + "/virtio-backend"
                                                                   : base;
  }
  return {};
}

}  // namespace

std::vector<Disk> disks_of(machine::Machine& machine) {
  std::vector<Disk> disks;
  if (machine.board() == nullptr) return disks;
  const auto& description = machine.description();
  unsigned unnamed = 0;
  for (auto& drive : machine.board()->drives()) {
    const auto& its = drive.description;
    Disk disk;
    const bool named = !its.id.empty() && its.id.front() != '#';
    disk.id = named ? its.id : fmt::format("virtio{}", unnamed++);
    disk.node = fmt::format("#block{:03}", disks.size());
    disk.qdev = device_of(description, its.id);
    if (disk.qdev.empty() && its.interface == "virtio")
      disk.qdev = fmt::format("/machine/peripheral-anon/device[{}]/virtio-backend",
                              description.devices.size() + disks.size());
    disk.file = its.file;
    disk.format = its.format;
    disk.size = drive.image != nullptr ? drive.image->size() : 0;
    disk.measured = drive.measured;
    disk.read_only = its.read_only;
    disk.cache_writeback = its.cache != "writethrough" && its.cache != "directsync";
    disk.cache_direct = its.cache == "none" || its.cache == "directsync";
    disk.cache_no_flush = its.cache == "unsafe";
    struct stat status {};
    if (::stat(its.file.c_str(), &status) == 0)
      disk.allocated = static_cast<uint64_t>(status.st_blocks) * 512;
    disks.push_back(std::move(disk));
  }
  return disks;
}

}  // namespace limen::monitor
