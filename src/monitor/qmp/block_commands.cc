// Disks.
#include "machine/machine.h"
#include "monitor/disks.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kSchema = R"(
struct ImageInfo { filename: str, format: str, virtual-size: uint, *actual-size: uint }
struct BlockdevCacheInfo { writeback: bool, direct: bool, no-flush: bool }
struct BlockDeviceInfo { file: str, *node-name: str, ro: bool, drv: str, backing_file_depth: int,
  encrypted: bool, detect_zeroes: str, bps: int, bps_rd: int, bps_wr: int, iops: int, iops_rd: int,
  iops_wr: int, image: ImageInfo, cache: BlockdevCacheInfo, write_threshold: int }
struct BlockInfo { device: str, *qdev: str, type: str, removable: bool, locked: bool,
  *inserted: BlockDeviceInfo, *tray_open: bool }
command query-block -> [BlockInfo]
command query-named-block-nodes { *flat: bool } -> [BlockDeviceInfo]
command query-block-jobs -> [any]
command query-jobs -> [any]
command eject { *device: str, *id: str, *force: bool }
)";

Json image_info(const Disk& disk) {
  Json info = {{"filename", disk.file}, {"format", disk.format}, {"virtual-size", disk.size}};
  if (disk.allocated) info["actual-size"] = *disk.allocated;
  return info;
}

Json device_info(const Disk& disk) {
  return {{"file", disk.file},
          {"node-name", disk.node},
          {"ro", disk.read_only},
          {"drv", disk.format},
          {"backing_file_depth", 0},
          {"encrypted", false},
          {"detect_zeroes", "off"},
          {"bps", 0},
          {"bps_rd", 0},
          {"bps_wr", 0},
          {"iops", 0},
          {"iops_rd", 0},
          {"iops_wr", 0},
          {"image", image_info(disk)},
          {"cache",
           {{"writeback", disk.cache_writeback},
            {"direct", disk.cache_direct},
            {"no-flush", disk.cache_no_flush}}},
          {"write_threshold", 0}};
}

Reply query_block(Context& context, const Json&) {
  Json all = Json::array();
  for (const auto& disk : disks_of(context.machine)) {
    Json each = {{"device", disk.id},
                 {"type", "unknown"},
                 {"removable", false},
                 {"locked", false},
                 {"inserted", device_info(disk)}};
    if (!disk.qdev.empty()) each["qdev"] = disk.qdev;
    all.push_back(std::move(each));
  }
  return all;
}

Reply query_named_block_nodes(Context& context, const Json&) {
  Json all = Json::array();
  for (const auto& disk : disks_of(context.machine)) all.push_back(device_info(disk));
  return all;
}

Reply empty_list(Context&, const Json&) { return Json::array(); }

Reply eject(Context& context, const Json& arguments) {
  const std::string device = arguments.value("device", "");
  const std::string id = arguments.value("id", "");
  if (device.empty() == id.empty())
    return failure("GenericError", "Need exactly one of 'device' and 'id'");
  for (const auto& disk : disks_of(context.machine))
    if ((!device.empty() && disk.id == device) || (!id.empty() && disk.qdev == id))
      return failure("GenericError", "Device '{}' is not removable", device.empty() ? id : device);
  if (!device.empty()) return failure("DeviceNotFound", "Device '{}' not found", device);
  return failure("GenericError", "Device '{}' not found", id);
}

}  // namespace

CommandGroup block_commands() {
  return {kSchema,
          {{"query-block", query_block},
           {"query-named-block-nodes", query_named_block_nodes},
           {"query-block-jobs", empty_list},
           {"query-jobs", empty_list},
           {"eject", eject}}};
}

}  // namespace limen::monitor
