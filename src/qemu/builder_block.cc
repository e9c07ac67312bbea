// -drive, -blockdev and what belongs to them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/nearest.h"
#include "base/size_text.h"
#include "block/filters/error_policy.h"
#include "block/probe.h"
#include "machine/block_node.h"
#include "machine/device_catalog.h"
#include "machine/firmware.h"
#include "machine/ide_places.h"
#include "qemu/builder.h"
#include "qemu/key_values.h"

namespace limen::qemu {
namespace {

using machine::DriveDescription;

constexpr std::array<std::string_view, 3> kFormats = {"raw", "qcow2", "null-co"};
constexpr std::array<std::string_view, 4> kInterfaces = {"virtio", "ide", "pflash", "none"};
/// Buses that QEMU has for if=, without a board here that has them.
constexpr std::array<std::string_view, 5> kOtherInterfaces = {"scsi", "sd", "mtd", "floppy", "xen"};
constexpr std::array<std::string_view, 5> kCaches = {"writeback", "none", "writethrough",
                                                     "directsync", "unsafe"};
constexpr std::array<std::string_view, 3> kAio = {"threads", "native", "io_uring"};
constexpr std::array<std::string_view, 4> kDiscards = {"unmap", "on", "ignore", "off"};
constexpr std::array<std::string_view, 3> kDetectZeroes = {"off", "on", "unmap"};
constexpr std::array<std::string_view, 2> kMedia = {"disk", "cdrom"};

constexpr std::array<std::string_view, 35> kDriveKeys = {"file",
                                                         "file.filename",
                                                         "file.driver",
                                                         "format",
                                                         "driver",
                                                         "if",
                                                         "index",
                                                         "bus",
                                                         "unit",
                                                         "media",
                                                         "id",
                                                         "node-name",
                                                         "cache",
                                                         "cache.direct",
                                                         "cache.no-flush",
                                                         "cache.writeback",
                                                         "aio",
                                                         "file.aio",
                                                         "discard",
                                                         "detect-zeroes",
                                                         "werror",
                                                         "rerror",
                                                         "snapshot",
                                                         "readonly",
                                                         "read-only",
                                                         "auto-read-only",
                                                         "copy-on-read",
                                                         "file.locking",
                                                         "locking",
                                                         "serial",
                                                         "size",
                                                         "read-zeroes",
                                                         "file.size",
                                                         "file.read-zeroes",
                                                         "latency-ns"};

constexpr std::string_view kThrottling = "throttling.";
/// The older names of -drive's limits.
constexpr std::array<std::pair<std::string_view, std::string_view>, 13> kOldLimits = {{
    {"bps", "bps-total"},
    {"bps_rd", "bps-read"},
    {"bps_wr", "bps-write"},
    {"iops", "iops-total"},
    {"iops_rd", "iops-read"},
    {"iops_wr", "iops-write"},
    {"bps_max", "bps-total-max"},
    {"bps_rd_max", "bps-read-max"},
    {"bps_wr_max", "bps-write-max"},
    {"iops_max", "iops-total-max"},
    {"iops_rd_max", "iops-read-max"},
    {"iops_wr_max", "iops-write-max"},
    {"iops_size", "iops-size"},
}};

/// Every key of a limit that -drive has.
std::vector<std::string> limit_keys() {
  std::vector<std::string> keys;
  for (const auto& name : block::limit_names()) keys.push_back(std::string(kThrottling) + name);
  for (const auto& old : kOldLimits) keys.emplace_back(old.first);
  return keys;
}

Result<block::ThrottleLimits> parse_limits(const KeyValues& values) {
  block::ThrottleLimits limits;
  for (const auto& [key, value] : values.pairs()) {
    std::string_view name = key;
    if (name.starts_with(kThrottling)) {
      name.remove_prefix(kThrottling.size());
    } else {
      const auto old =
          std::ranges::find(kOldLimits, name, [](const auto& row) { return row.first; });
      if (old == kOldLimits.end()) continue;
      name = old->second;
    }
    auto* const field = block::limit_field(limits, name);
    if (field == nullptr) continue;  // throttling.group
    // QEMU takes sizes ("10M") for all of them.
    auto number = parse_size(value, 1);
    if (!number) return fail("{}={}: {}", key, value, number.error().message);
    *field = *number;
  }
  LIMEN_TRY(block::check_limits(limits));
  return limits;
}

Result<> check_keys(const KeyValues& values, std::span<const std::string_view> fixed,
                    std::span<const std::string> more) {
  std::vector<std::string_view> known(fixed.begin(), fixed.end());
  known.insert(known.end(), more.begin(), more.end());
  return values.check(known);
}

Result<std::string> error_action(const KeyValues& values, std::string_view key, bool read,
                                 std::string_view otherwise) {
  const auto text = values.find(key);
  if (!text) return std::string(otherwise);
  constexpr std::array<std::string_view, 4> kActions = {"report", "ignore", "stop", "enospc"};
  const auto choices = std::span(kActions).first(read ? 3 : 4);
  if (std::ranges::find(choices, std::string_view(*text)) == choices.end())
    return fail("'{}' invalid {} error action{}", *text, read ? "read" : "write",
                choice_hint(*text, choices));
  return *text;
}

/// cache.direct, cache.no-flush and cache.writeback on top of cache=.
Result<std::string> cache_mode(const KeyValues& values, std::string_view otherwise) {
  std::string mode = LIMEN_TRY(values.choice("cache", kCaches, otherwise));
  bool direct = mode == "none" || mode == "directsync";
  bool no_flush = mode == "unsafe";
  bool write_back = mode != "writethrough" && mode != "directsync";
  direct = LIMEN_TRY(values.boolean("cache.direct", direct));
  no_flush = LIMEN_TRY(values.boolean("cache.no-flush", no_flush));
  write_back = LIMEN_TRY(values.boolean("cache.writeback", write_back));
  if (no_flush && direct)
    return fail("cache.no-flush=on with cache.direct=on is not there; use one of them");
  if (!write_back) return direct ? "directsync" : "writethrough";
  if (no_flush) return "unsafe";
  return direct ? "none" : "writeback";
}

Result<> common_settings(const KeyValues& values, DriveDescription& drive) {
  drive.aio = LIMEN_TRY(values.choice("aio", kAio, ""));
  if (values.find("file.aio")) drive.aio = LIMEN_TRY(values.choice("file.aio", kAio, ""));
  const auto discard = LIMEN_TRY(values.choice("discard", kDiscards, "unmap"));
  drive.discard_unmap = discard == "unmap" || discard == "on";
  drive.detect_zeroes = LIMEN_TRY(values.choice("detect-zeroes", kDetectZeroes, "off"));
  if (drive.detect_zeroes == "unmap" && !drive.discard_unmap)
    return fail(
        "setting detect-zeroes to unmap is not allowed without setting discard operation to "
        "unmap");
  for (const auto* key : {"locking", "file.locking"}) {
    const auto value = values.find(key);
    if (value && *value != "auto") drive.locking = LIMEN_TRY(values.boolean(key, true));
  }
  drive.auto_read_only = LIMEN_TRY(values.boolean("auto-read-only", drive.auto_read_only));
  for (const auto* key : {"size", "file.size"})
    if (const auto size = values.find(key)) drive.null_bytes = LIMEN_TRY(parse_size(*size, 1));
  for (const auto* key : {"read-zeroes", "file.read-zeroes"})
    if (values.find(key)) drive.null_reads_zeroes = LIMEN_TRY(values.boolean(key, false));
  if (drive.aio == "native" && drive.cache != "none" && drive.cache != "directsync")
    return fail(
        "aio=native was specified, but it requires cache.direct=on, which was not specified");
  return {};
}

}  // namespace

Result<> Builder::drive(const std::string& argument) {
  auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  auto limits = limit_keys();
  limits.emplace_back("throttling.group");
  limits.emplace_back("group");
  LIMEN_TRY(check_keys(values, kDriveKeys, limits));
  DriveDescription drive;
  drive.file = values.text("file", values.text("file.filename"));
  drive.file = LIMEN_TRY(machine::plain_image_path(drive.file));
  constexpr std::array<std::string_view, 3> kProtocols = {"file", "host_device", "null-co"};
  const auto protocol = LIMEN_TRY(values.choice("file.driver", kProtocols, "file"));
  for (const auto* key : {"format", "driver"})
    if (const auto format = values.find(key); format && *format != "null-co")
      LIMEN_TRY(block::check_format_supported(*format, drive.file));
  drive.format = LIMEN_TRY(values.choice(values.find("driver") ? "driver" : "format", kFormats,
                                         protocol == "null-co" ? "null-co" : ""));
  if (protocol == "null-co") drive.format = "null-co";
  const auto media = LIMEN_TRY(values.choice("media", kMedia, "disk"));
  drive.cdrom = media == "cdrom";

  // The place on its bus; said for two drives it must not be the same (vl.c's index, bus and unit).
  const auto number = [&](std::string_view key) -> Result<std::optional<uint64_t>> {
    const auto text = values.find(key);
    if (!text) return std::nullopt;
    auto value = machine::parse_number(*text);
    if (!value) return fail("{}={}: {}", key, *text, value.error().message);
    return *value;
  };
  const auto index = LIMEN_TRY(number("index")), bus = LIMEN_TRY(number("bus")),
             unit = LIMEN_TRY(number("unit"));
  if (index && (bus || unit)) return fail("index cannot be used with bus and unit");
  // What a disk without if= is, depends on the board: finish_drives().
  const auto interface = values.text("if", "ide");
  if (std::ranges::find(kOtherInterfaces, std::string_view(interface)) != kOtherInterfaces.end())
    return fail(
        "machine type does not support if={},bus={},unit={}; use if=virtio, or if=none and a "
        "-device",
        interface, bus.value_or(0), index ? *index : unit.value_or(0));
  drive.interface = LIMEN_TRY(values.choice("if", kInterfaces, "ide"));
  if (!values.find("if") && !drive.cdrom) drive.interface.clear();
  const auto place_of = [](const std::optional<uint64_t>& said) -> std::optional<unsigned> {
    if (!said) return std::nullopt;
    return static_cast<unsigned>(std::min<uint64_t>(*said, 1 << 16));
  };
  drive.index = place_of(index);
  drive.bus = place_of(bus);
  drive.unit = place_of(unit);
  // Where the places of IDE are, the board says.
  if ((index || bus || unit) && drive.interface != "ide" && drive.interface != "pflash") {
    const uint64_t place = index ? *index : unit.value_or(0);
    if (drive.interface != "none" && !drive.interface.empty() &&
        !drive_places_.emplace(drive.interface, bus.value_or(0), place).second)
      return fail("drive with bus={}, unit={} (index={}) exists", bus.value_or(0), place, place);
  }

  drive.read_only = LIMEN_TRY(values.boolean("readonly", drive.cdrom));
  drive.read_only = LIMEN_TRY(values.boolean("read-only", drive.read_only));
  drive.cache = LIMEN_TRY(cache_mode(values, "writeback"));
  if (LIMEN_TRY(values.boolean("copy-on-read", false)))
    return fail("copy-on-read is not there; use copy-on-read=off");
  LIMEN_TRY(common_settings(values, drive));
  drive.read_errors = LIMEN_TRY(error_action(values, "rerror", true, "report"));
  drive.write_errors = LIMEN_TRY(error_action(values, "werror", false, "enospc"));
  drive.snapshot = LIMEN_TRY(values.boolean("snapshot", false));
  drive.throttle = LIMEN_TRY(parse_limits(values));
  drive.throttle_group = values.text("throttling.group", values.text("group"));
  drive.serial = values.text("serial");
  drive.id = values.text("id");
  drive.node_name = values.text("node-name");
  if (drive.file.empty() && drive.format != "null-co" && !drive.cdrom)
    return fail("file= is missing: which image is the disk?");
  for (const auto& other : result_.machine.drives) {
    if (!drive.id.empty() && other.id == drive.id)
      return fail("Duplicate ID '{}' for drive", drive.id);
    if (!drive.node_name.empty() &&
        (other.node_name == drive.node_name || other.id == drive.node_name))
      return fail("Duplicate nodes with node-name='{}'", drive.node_name);
  }
  if (drive.interface == "none" && drive.id.empty())
    return fail("if=none needs id=, by which a -device refers to the drive");
  result_.machine.drives.push_back(std::move(drive));
  return {};
}

Result<> Builder::cdrom(const std::string& argument) {
  DriveDescription drive;
  drive.file = LIMEN_TRY(machine::plain_image_path(argument));
  drive.interface = "ide";
  drive.index = 2;
  drive.cdrom = drive.read_only = true;
  result_.machine.drives.push_back(std::move(drive));
  return {};
}

Result<> Builder::hard_disk(const std::string& file, unsigned index) {
  const auto same = [&](const DriveDescription& other) {
    return other.interface == "ide" && other.index == index;
  };
  if (index == 0 && std::ranges::any_of(result_.machine.drives, same))
    return fail("drive with bus=0, unit=0 (index=0) exists");
  DriveDescription drive;
  drive.interface = "ide";
  drive.index = index;
  drive.file = LIMEN_TRY(machine::plain_image_path(file));
  if (drive.file.empty()) return fail("the path of an image is missing");
  result_.machine.drives.push_back(std::move(drive));
  return {};
}

Result<> Builder::hard_disk_a(const std::string& argument) { return hard_disk(argument, 0); }
Result<> Builder::hard_disk_b(const std::string& argument) { return hard_disk(argument, 1); }
Result<> Builder::hard_disk_c(const std::string& argument) { return hard_disk(argument, 2); }
Result<> Builder::hard_disk_d(const std::string& argument) { return hard_disk(argument, 3); }

Result<> Builder::snapshot(const std::string&) {
  snapshot_ = true;
  return {};
}

/// -snapshot is for all drives, wherever it stands; -blockdev nodes are not drives.
Result<> Builder::finish_drives() {
  for (unsigned i = 0; i < flash_.size(); ++i) {
    if (flash_[i].empty()) continue;
    const auto node = std::ranges::find_if(result_.machine.drives, [&](const auto& drive) {
      return drive.node_name == flash_[i] || drive.id == flash_[i];
    });
    if (node == result_.machine.drives.end())
      return fail("Property 'machine.pflash{}' can't find value '{}'", i, flash_[i]);
    node->interface = "pflash";
    node->index = i;
  }
  for (auto& drive : result_.machine.drives) {
    if (!drive.interface.empty()) continue;
    drive.interface = result_.machine.type == "microvm" ? "virtio" : "ide";
    if (drive.interface == "ide" || (!drive.index && !drive.bus && !drive.unit)) continue;
    const unsigned bus = drive.bus.value_or(0),
                   place = drive.index.value_or(drive.unit.value_or(0));
    if (!drive_places_.emplace(drive.interface, bus, place).second)
      return fail("drive with bus={}, unit={} (index={}) exists", bus, place, place);
  }
  for (auto& drive : result_.machine.drives)
    if (snapshot_ && !drive.cdrom && (drive.id != drive.node_name || drive.id.empty()))
      drive.snapshot = true;
  // Whether there is room for what goes on the board's own controller.
  static_cast<void>(LIMEN_TRY(machine::place_ide_drives(result_.machine)));
  return {};
}

// --- -blockdev ----------------------------------------------------------------------------------

Result<> Builder::block_device(const std::string& argument) {
  if (!argument.starts_with('{')) {
    const auto values = LIMEN_TRY(KeyValues::parse(argument, "driver"));
    return add_node(LIMEN_TRY(machine::nested_options(values.pairs())));
  }
  const auto json = nlohmann::json::parse(argument, nullptr, false);
  if (json.is_discarded() || !json.is_object()) return fail("Invalid JSON syntax");
  return add_node(json);
}

/// Nodes become one description each: a node that stands before another takes what that one says.
Result<> Builder::add_node(const nlohmann::json& options) {
  auto& machine = result_.machine;
  const machine::NodeSurroundings surroundings{
      .find = [&](const std::string& name) -> const DriveDescription* {
        for (const auto* list : {&machine.drives, &machine.child_nodes})
          for (const auto& drive : *list)
            if (drive.node_name == name || drive.id == name) return &drive;
        return nullptr;
      },
      .has_throttle_group =
          [&](const std::string& id) { return find_object(id, "throttle-group").has_value(); }};
  auto node = LIMEN_TRY(machine::parse_node(options, surroundings));
  // One that is no node's of its own is not opened.
  for (const auto& child : node.children) {
    const auto found =
        std::ranges::find_if(machine.drives, [&](const auto& d) { return d.node_name == child; });
    if (!found->is_node())
      return fail("node '{}' is a drive's; use if=none and its own -blockdev", child);
    found->parent = node.description.node_name;
    machine.child_nodes.push_back(std::move(*found));
    machine.drives.erase(found);
  }
  machine.drives.push_back(std::move(node.description));
  return {};
}

// --- What -device refers to ---------------------------------------------------------------------

Result<> Builder::check_block_references(const machine::DeviceDescription& device) const {
  const auto& machine = result_.machine;
  const auto property = [&](const char* key) -> const std::string* {
    const auto found = device.properties.find(key);
    return found == device.properties.end() ? nullptr : &found->second;
  };
  std::vector<std::string_view> ids;
  for (const auto& drive : machine.drives)
    for (const auto* name : {&drive.id, &drive.node_name})
      if (!name->empty() && std::ranges::find(ids, *name) == ids.end()) ids.push_back(*name);
  if (const auto* drive = property("drive");
      drive != nullptr && std::ranges::find(ids, std::string_view(*drive)) == ids.end()) {
    if (std::ranges::any_of(machine.child_nodes,
                            [&](const auto& child) { return child.node_name == *drive; }))
      return fail("-device {},drive={}: the node is another node's already", device.driver, *drive);
    return fail("-device {0},drive={1}: Property '{0}.drive' can't find value '{1}'{2}",
                device.driver, *drive, choice_hint(*drive, ids));
  }
  if (const auto* thread = property("iothread")) {
    if (auto found = find_object(*thread, "iothread"); !found)
      return fail("-device {},iothread={}: {}", device.driver, *thread, found.error().message);
  }
  if (device.driver == "ide-hd" && property("drive") == nullptr)
    return fail("-device {}: No drive specified", device.driver);
  if ((device.driver == "virtio-blk-pci" || device.driver == "nvme" ||
       device.driver == "scsi-hd") &&
      property("drive") == nullptr)
    return fail("-device {}: drive property not set", device.driver);
  return {};
}

}  // namespace limen::qemu
