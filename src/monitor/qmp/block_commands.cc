// Disks, as they are.
#include "block/filters/measured.h"
#include "machine/drive.h"
#include "machine/machine.h"
#include "monitor/disks.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kBlockSchema = R"(
struct ImageInfo { filename: str, format: str, *dirty-flag: bool, *actual-size: uint,
  virtual-size: uint, *cluster-size: uint, *encrypted: bool, *compressed: bool,
  *backing-filename: str, *full-backing-filename: str, *backing-filename-format: str,
  *backing-image: ImageInfo }
struct BlockdevCacheInfo { writeback: bool, direct: bool, no-flush: bool }
enum BlockdevDetectZeroesOptions { off, on, unmap }
struct BlockDeviceInfo { file: str, *node-name: str, ro: bool, drv: str, *backing_file: str,
  backing_file_depth: int, encrypted: bool, detect_zeroes: BlockdevDetectZeroesOptions, bps: int,
  bps_rd: int, bps_wr: int, iops: int, iops_rd: int, iops_wr: int, image: ImageInfo, *bps_max: int,
  *bps_rd_max: int, *bps_wr_max: int, *iops_max: int, *iops_rd_max: int, *iops_wr_max: int,
  *bps_max_length: int, *bps_rd_max_length: int, *bps_wr_max_length: int, *iops_max_length: int,
  *iops_rd_max_length: int, *iops_wr_max_length: int, *iops_size: int, *group: str,
  cache: BlockdevCacheInfo, write_threshold: int }
enum BlockDeviceIoStatus { ok, failed, nospace }
struct BlockInfo { device: str, *qdev: str, type: str, removable: bool, locked: bool,
  *inserted: BlockDeviceInfo, *tray_open: bool, *io-status: BlockDeviceIoStatus }
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
)";

Reply query_block(Context& context, const Json&) {
  Json all = Json::array();
  for (const auto* drive : drives_of(context.machine))
    if (is_backend(*drive)) all.push_back(backend_info(*drive));
  return all;
}

Reply query_named_block_nodes(Context& context, const Json& arguments) {
  const bool flat = arguments.value("flat", false);
  Json all = Json::array();
  for (const auto* drive : drives_of(context.machine)) add_node_infos(*drive, flat, all);
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
  for (const auto* drive : drives_of(context.machine)) {
    if (drive->measured == nullptr || !(nodes || is_backend(*drive))) continue;
    Json each = {{"node-name", drive->description.node_name},
                 {"stats", statistics(*drive->measured)}};
    if (!nodes) {
      each["device"] = backend_name(*drive);
      if (!drive->device_path.empty()) each["qdev"] = drive->device_path;
    }
    all.push_back(std::move(each));
  }
  return all;
}

Reply empty_list(Context&, const Json&) { return Json::array(); }

}  // namespace

CommandGroup block_commands() {
  return {kBlockSchema,
          {{"query-block", query_block},
           {"query-blockstats", query_blockstats},
           {"query-named-block-nodes", query_named_block_nodes},
           {"query-block-jobs", empty_list},
           {"query-jobs", empty_list}}};
}

}  // namespace limen::monitor
