// What is done to disks while the machine runs: nodes, sizes, limits, overlays.
#include <algorithm>

#include "machine/machine.h"
#include "monitor/qmp/drive_lookup.h"

namespace limen::monitor {
namespace {

using machine::BlockControl;

constexpr std::string_view kBlockChangeSchema = R"(
enum BlockdevDriver { file, host_device, null-aio, null-co, qcow2, raw, throttle }
enum BlockdevDiscardOptions { ignore, unmap }
enum BlockdevAioOptions { threads, native, io_uring }
enum OnOffAuto { auto, on, off }
struct BlockdevCacheOptions { *direct: bool, *no-flush: bool }
alternate BlockdevRef { BlockdevOptions, str }
alternate BlockdevRefOrNull { BlockdevOptions, str, null }
struct BlockdevOptionsFile { filename: str, *aio: BlockdevAioOptions, *locking: OnOffAuto }
struct BlockdevOptionsNull { *size: uint, *latency-ns: uint, *read-zeroes: bool }
struct BlockdevOptionsGenericFormat { file: BlockdevRef }
struct BlockdevOptionsQcow2 { file: BlockdevRef, *backing: BlockdevRefOrNull }
struct BlockdevOptionsThrottle { throttle-group: str, file: BlockdevRef }
union BlockdevOptions { driver: BlockdevDriver, *node-name: str, *discard: BlockdevDiscardOptions,
  *cache: BlockdevCacheOptions, *read-only: bool, *auto-read-only: bool, *force-share: bool,
  *detect-zeroes: BlockdevDetectZeroesOptions }
  on driver { file: BlockdevOptionsFile, host_device: BlockdevOptionsFile,
    null-aio: BlockdevOptionsNull, null-co: BlockdevOptionsNull, qcow2: BlockdevOptionsQcow2,
    raw: BlockdevOptionsGenericFormat, throttle: BlockdevOptionsThrottle }
command blockdev-add BlockdevOptions
command blockdev-del { node-name: str }

command block_resize { *device: str, *node-name: str, size: int }

struct BlockIOThrottle { *device: str, *id: str, bps: int, bps_rd: int, bps_wr: int, iops: int,
  iops_rd: int, iops_wr: int, *bps_max: int, *bps_rd_max: int, *bps_wr_max: int, *iops_max: int,
  *iops_rd_max: int, *iops_wr_max: int, *bps_max_length: int, *bps_rd_max_length: int,
  *bps_wr_max_length: int, *iops_max_length: int, *iops_rd_max_length: int,
  *iops_wr_max_length: int, *iops_size: int, *group: str }
command block_set_io_throttle BlockIOThrottle

enum NewImageMode { existing, absolute-paths }
struct BlockdevSnapshotSync { *device: str, *node-name: str, snapshot-file: str,
  *snapshot-node-name: str, *format: str, *mode: NewImageMode }
command blockdev-snapshot-sync BlockdevSnapshotSync
struct BlockdevSnapshot { node: str, overlay: str }
command blockdev-snapshot BlockdevSnapshot [allow-write-only-overlay]
enum TransactionActionKind { blockdev-snapshot, blockdev-snapshot-sync }
struct BlockdevSnapshotWrapper { data: BlockdevSnapshot }
struct BlockdevSnapshotSyncWrapper { data: BlockdevSnapshotSync }
union TransactionAction { type: TransactionActionKind } on type {
  blockdev-snapshot: BlockdevSnapshotWrapper, blockdev-snapshot-sync: BlockdevSnapshotSyncWrapper }
enum ActionCompletionMode { individual, grouped }
struct TransactionProperties { *completion-mode: ActionCompletionMode }
command transaction { actions: [TransactionAction], *properties: TransactionProperties }
)";

Reply no_disks() { return failure("GenericError", "machine 'none' has no disks"); }

Reply add_node(Context& context, const Json& arguments) {
  auto* board = context.machine.board();
  if (board == nullptr) return no_disks();
  return answer(BlockControl(*board).add_node(arguments));
}

Reply delete_node(Context& context, const Json& arguments) {
  const std::string name = arguments["node-name"];
  auto* board = context.machine.board();
  if (board == nullptr)
    return failure("GenericError", "Failed to find node with node-name='{}'", name);
  return answer(BlockControl(*board).delete_node(name));
}

Reply resize(Context& context, const Json& arguments) {
  const auto found =
      find_drive_or_node(context, arguments.value("device", ""), arguments.value("node-name", ""));
  if (!found) return std::unexpected(found.error());
  const int64_t size = arguments["size"];
  if (size < 0) return failure("GenericError", "Parameter 'size' expects a >0 size");
  return answer(
      BlockControl(*context.machine.board()).resize(*found->drive, static_cast<uint64_t>(size)));
}

/// A limit's three numbers; QEMU's names end alike.
Result<block::RateLimit> rate_limit(const Json& arguments, const std::string& name) {
  const auto number = [&](const std::string& key, int64_t otherwise) -> Result<uint64_t> {
    const int64_t value = arguments.value(key, otherwise);
    if (value < 0)
      return fail("bps/iops/max values must be within [0, {}]", int64_t{1'000'000'000'000'000});
    return static_cast<uint64_t>(value);
  };
  block::RateLimit limit;
  limit.average = LIMEN_TRY(number(name, 0));
  limit.maximum = LIMEN_TRY(number(name + "_max", 0));
  limit.length = LIMEN_TRY(number(name + "_max_length", 1));
  return limit;
}

Result<block::ThrottleLimits> limits_of(const Json& arguments) {
  block::ThrottleLimits limits;
  limits.bps_total = LIMEN_TRY(rate_limit(arguments, "bps"));
  limits.bps_read = LIMEN_TRY(rate_limit(arguments, "bps_rd"));
  limits.bps_write = LIMEN_TRY(rate_limit(arguments, "bps_wr"));
  limits.iops_total = LIMEN_TRY(rate_limit(arguments, "iops"));
  limits.iops_read = LIMEN_TRY(rate_limit(arguments, "iops_rd"));
  limits.iops_write = LIMEN_TRY(rate_limit(arguments, "iops_wr"));
  const int64_t unit = arguments.value("iops_size", int64_t{0});
  if (unit < 0) return fail("Parameter 'iops_size' expects a non-negative integer");
  limits.iops_size = static_cast<uint64_t>(unit);
  return limits;
}

Reply set_io_throttle(Context& context, const Json& arguments) {
  const auto found = find_backend(context, arguments);
  if (!found) return std::unexpected(found.error());
  auto& drive = *found->drive;
  if (drive.image == nullptr)
    return failure("GenericError", "Device '{}' has no medium", found->called);
  const auto limits = limits_of(arguments);
  if (!limits) return std::unexpected(Failure(limits.error()));
  // Without a name it stays in the group that it is in, or is in one of its own name.
  const auto& present = drive.description.throttle_group;
  const std::string group = arguments.value("group", present.empty() ? found->called : present);
  return answer(context.machine.board()->drive_opener().set_limits(drive, *limits, group));
}

BlockControl::Overlay overlay_of(const Json& arguments) {
  return {.file = arguments["snapshot-file"],
          .format = arguments.value("format", "qcow2"),
          .node_name = arguments.value("snapshot-node-name", ""),
          .existing = arguments.value("mode", "absolute-paths") == "existing"};
}

std::expected<FoundDrive, Failure> snapshot_drive(Context& context, const Json& arguments) {
  auto found =
      find_drive_or_node(context, arguments.value("device", ""), arguments.value("node-name", ""));
  if (found && arguments.contains("node-name") && !arguments.contains("snapshot-node-name"))
    return failure("GenericError", "New overlay node name missing");
  return found;
}

Reply snapshot_sync(Context& context, const Json& arguments) {
  const auto found = snapshot_drive(context, arguments);
  if (!found) return std::unexpected(found.error());
  return answer(
      BlockControl(*context.machine.board()).snapshot(*found->drive, overlay_of(arguments)));
}

Reply snapshot(Context& context, const Json& arguments) {
  const std::string name = arguments["node"];
  const auto found = find_drive_or_node(context, name, name);
  if (!found) return std::unexpected(found.error());
  return answer(BlockControl(*context.machine.board())
                    .snapshot(*found->drive, arguments["overlay"].get<std::string>()));
}

/// All or none: what can be seen to fail is looked for before the first is done.
Reply transaction(Context& context, const Json& arguments) {
  const auto& actions = arguments["actions"];
  std::vector<std::string> files;
  for (const auto& action : actions) {
    if (action["type"] != "blockdev-snapshot-sync") continue;
    const auto& data = action["data"];
    const auto found = snapshot_drive(context, data);
    if (!found) return std::unexpected(found.error());
    const auto overlay = overlay_of(data);
    if (std::ranges::find(files, overlay.file) != files.end())
      return failure("GenericError", "Failed to get \"write\" lock: image '{}' is in use",
                     overlay.file);
    files.push_back(overlay.file);
    if (auto checked =
            BlockControl(*context.machine.board()).check_snapshot(*found->drive, overlay);
        !checked)
      return std::unexpected(Failure(std::move(checked).error()));
  }
  Reply reply = nothing();
  // Of one moment for the guest.
  context.machine.with_processors_held([&] {
    for (const auto& action : actions) {
      reply = action["type"] == "blockdev-snapshot-sync" ? snapshot_sync(context, action["data"])
                                                         : snapshot(context, action["data"]);
      if (!reply) return;
    }
  });
  return reply;
}

}  // namespace

CommandGroup block_change_commands() {
  return {kBlockChangeSchema,
          {{"blockdev-add", add_node},
           {"blockdev-del", delete_node},
           {"block_resize", resize},
           {"block_set_io_throttle", set_io_throttle},
           {"blockdev-snapshot-sync", snapshot_sync},
           {"blockdev-snapshot", snapshot},
           {"transaction", transaction}}};
}

}  // namespace limen::monitor
