// Disks.
#include "block/filters/measured.h"
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
struct BlockDeviceStats { rd_bytes: uint, wr_bytes: uint, unmap_bytes: uint, rd_operations: uint,
  wr_operations: uint, flush_operations: uint, unmap_operations: uint, rd_total_time_ns: uint,
  wr_total_time_ns: uint, flush_total_time_ns: uint, unmap_total_time_ns: uint,
  wr_highest_offset: uint, failed_rd_operations: uint, failed_wr_operations: uint,
  failed_flush_operations: uint, failed_unmap_operations: uint, rd_merged: uint, wr_merged: uint,
  unmap_merged: uint, account_invalid: bool, account_failed: bool, timed_stats: [any] }
event BLOCK_IO_ERROR { device: str, *node-name: str, operation: str, action: str, *nospace: bool,
  reason: str }
struct BlockStats { *device: str, *qdev: str, *node-name: str, stats: BlockDeviceStats }
command query-blockstats { *query-nodes: bool } -> [BlockStats]
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

Json statistics(const block::Measured& disk) {
  using Kind = block::Request::Kind;
  const auto read = disk.counts(Kind::kRead);
  const auto flush = disk.counts(Kind::kFlush);
  const auto unmap = disk.counts(Kind::kDiscard);
  auto write = disk.counts(Kind::kWrite);
  const auto zeroes = disk.counts(Kind::kWriteZeroes);
  write.operations += zeroes.operations;
  write.bytes += zeroes.bytes;
  write.nanoseconds += zeroes.nanoseconds;
  write.failed += zeroes.failed;
  return {{"rd_bytes", read.bytes},
          {"wr_bytes", write.bytes},
          {"unmap_bytes", unmap.bytes},
          {"rd_operations", read.operations},
          {"wr_operations", write.operations},
          {"flush_operations", flush.operations},
          {"unmap_operations", unmap.operations},
          {"rd_total_time_ns", read.nanoseconds},
          {"wr_total_time_ns", write.nanoseconds},
          {"flush_total_time_ns", flush.nanoseconds},
          {"unmap_total_time_ns", unmap.nanoseconds},
          {"wr_highest_offset", disk.highest_written()},
          {"failed_rd_operations", read.failed},
          {"failed_wr_operations", write.failed},
          {"failed_flush_operations", flush.failed},
          {"failed_unmap_operations", unmap.failed},
          // Nothing merges requests here.
          {"rd_merged", 0},
          {"wr_merged", 0},
          {"unmap_merged", 0},
          {"account_invalid", true},
          {"account_failed", true},
          {"timed_stats", Json::array()}};
}

Reply query_blockstats(Context& context, const Json& arguments) {
  const bool nodes = arguments.value("query-nodes", false);
  Json all = Json::array();
  for (const auto& disk : disks_of(context.machine)) {
    if (disk.measured == nullptr) continue;
    Json each = {{"node-name", disk.node}, {"stats", statistics(*disk.measured)}};
    if (!nodes) {
      each["device"] = disk.id;
      if (!disk.qdev.empty()) each["qdev"] = disk.qdev;
    }
    all.push_back(std::move(each));
  }
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
           {"query-blockstats", query_blockstats},
           {"query-named-block-nodes", query_named_block_nodes},
           {"query-block-jobs", empty_list},
           {"query-jobs", empty_list},
           {"eject", eject}}};
}

}  // namespace limen::monitor
