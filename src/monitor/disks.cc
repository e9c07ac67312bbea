#include "monitor/disks.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "block/layer_device.h"
#include "block/qcow2/image.h"
#include "block/scsi/cd.h"
#include "machine/board.h"
#include "machine/machine.h"

namespace limen::monitor {
namespace {

using Json = nlohmann::json;
using machine::Drive;
using machine::DriveDescription;

std::optional<uint64_t> allocated_bytes(const std::string& path) {
  struct stat status {};
  if (path.empty() || ::stat(path.c_str(), &status) != 0) return std::nullopt;
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

uint64_t file_bytes(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

/// Of one image, with those behind it unless `flat`.
Json layer_info(block::Layer& layer, bool flat) {
  Json info = {{"filename", layer.path()},
               {"format", layer.format()},
               {"virtual-size", layer.size()},
               {"dirty-flag", false}};
  if (const auto bytes = allocated_bytes(layer.path())) info["actual-size"] = *bytes;
  if (const auto* image = dynamic_cast<const block::qcow2::Image*>(&layer)) {
    const auto& header = image->header();
    info["cluster-size"] = header.cluster_size();
    info["dirty-flag"] = image->dirty();
    if (!header.backing_file.empty()) {
      info["backing-filename"] = header.backing_file;
      if (auto* below = layer.backing(); below != nullptr)
        info["full-backing-filename"] = below->path();
      if (!header.backing_format.empty()) info["backing-filename-format"] = header.backing_format;
    }
  }
  if (auto* below = layer.backing(); below != nullptr && !flat)
    info["backing-image"] = layer_info(*below, false);
  return info;
}

block::Layer* top_layer(const Drive& drive) {
  if (drive.gate == nullptr) return nullptr;
  auto* device = dynamic_cast<block::LayerDevice*>(&drive.gate->image());
  return device == nullptr ? nullptr : &device->top();
}

Json drive_image_info(const Drive& drive, bool flat) {
  if (auto* layer = top_layer(drive)) return layer_info(*layer, flat);
  const auto& description = drive.description;
  Json info = {{"filename", description.format == "null-co" ? "null-co://" : description.file},
               {"format", description.format},
               {"virtual-size", drive.image != nullptr ? drive.image->size() : 0}};
  if (const auto bytes = allocated_bytes(description.file)) info["actual-size"] = *bytes;
  return info;
}

void add_limits(const Drive& drive, Json& info) {
  const auto limits =
      drive.throttle != nullptr ? drive.throttle->group().limits() : block::ThrottleLimits{};
  const struct {
    const char* name;
    const block::RateLimit& limit;
  } each[] = {{"bps", limits.bps_total},     {"bps_rd", limits.bps_read},
              {"bps_wr", limits.bps_write},  {"iops", limits.iops_total},
              {"iops_rd", limits.iops_read}, {"iops_wr", limits.iops_write}};
  for (const auto& [name, limit] : each) {
    info[name] = limit.average;
    if (limit.maximum == 0) continue;
    // "bps_max", "bps_rd_max", and the lengths behind them.
    info[fmt::format("{}_max", name)] = limit.maximum;
    info[fmt::format("{}_max_length", name)] = limit.length;
  }
  if (limits.iops_size != 0) info["iops_size"] = limits.iops_size;
  if (limits.any())
    info["group"] = !drive.description.throttle_group.empty() ? drive.description.throttle_group
                    : !backend_name(drive).empty()            ? backend_name(drive)
                                                              : drive.device_id;
}

Json device_info(const Drive& drive, const DriveDescription& description, Json image) {
  const auto& cache = description.cache;
  Json info = {
      {"file", image["filename"]},
      {"node-name", description.node_name},
      {"ro", description.read_only},
      {"drv", description.node_driver.empty() ? description.format : description.node_driver},
      {"backing_file_depth", 0},
      {"encrypted", false},
      {"detect_zeroes", description.detect_zeroes},
      {"cache",
       {{"writeback", cache != "writethrough" && cache != "directsync"},
        {"direct", cache == "none" || cache == "directsync"},
        {"no-flush", cache == "unsafe"}}},
      {"write_threshold", 0}};
  if (image.contains("backing-filename")) info["backing_file"] = image["backing-filename"];
  info["image"] = std::move(image);
  add_limits(drive, info);
  return info;
}

Json drive_device_info(const Drive& drive, bool flat) {
  auto info = device_info(drive, drive.description, drive_image_info(drive, flat));
  if (drive.gate != nullptr) info["ro"] = drive.gate->read_only();
  auto* layer = top_layer(drive);
  int depth = 0;
  for (; layer != nullptr && layer->backing() != nullptr; layer = layer->backing()) ++depth;
  info["backing_file_depth"] = depth;
  if (depth != 0 && !info.contains("backing_file"))
    info["backing_file"] = top_layer(drive)->backing()->path();
  return info;
}

/// Nodes below the first that have names: formats, files, and the images behind.
void add_lower_nodes(const DriveDescription& description, Json& all) {
  const Drive none;
  const auto add = [&](const machine::NodeName& node, bool read_only) {
    if (node.name.empty()) return;
    DriveDescription its = description;
    its.node_name = node.name;
    its.node_driver = node.driver;
    its.read_only = read_only;
    Json image = {{"filename", description.file},
                  {"format", node.driver},
                  {"virtual-size", file_bytes(description.file)}};
    if (const auto bytes = allocated_bytes(description.file)) image["actual-size"] = *bytes;
    all.push_back(device_info(none, its, std::move(image)));
  };
  for (const auto& node : description.nodes) add(node, description.read_only);
  if (description.backing == nullptr) return;
  const auto& below = *description.backing;
  add({below.node_name, below.node_driver.empty() ? below.format : below.node_driver}, true);
  add_lower_nodes(below, all);
}

}  // namespace

std::vector<Drive*> drives_of(machine::Machine& machine) {
  std::vector<Drive*> drives;
  if (machine.board() == nullptr) return drives;
  for (auto& drive : machine.board()->drives())
    if (drive.description.parent.empty() && !drive.lent) drives.push_back(&drive);
  return drives;
}

bool is_backend(const Drive& drive) { return drive.in_use || !drive.description.is_node(); }

std::string backend_name(const Drive& drive) {
  return drive.description.is_node() ? "" : drive.description.id;
}

Json backend_info(const Drive& drive) {
  Json info = {{"device", backend_name(drive)},
               {"type", "unknown"},
               // What no device has may be taken out.
               {"removable", drive.cd != nullptr || !drive.in_use},
               {"locked", drive.cd != nullptr && drive.cd->locked()}};
  if (!drive.device_path.empty()) info["qdev"] = drive.device_path;
  if (drive.cd != nullptr) info["tray_open"] = drive.cd->tray_open();
  if (drive.image == nullptr) return info;
  info["inserted"] = drive_device_info(drive, false);
  using block::ErrorAction;
  const auto stops = [](ErrorAction action) {
    return action == ErrorAction::kStop || action == ErrorAction::kEnospc;
  };
  if (drive.in_use && (stops(drive.errors->on_write()) || stops(drive.errors->on_read()))) {
    const int error = drive.errors->held_error();
    info["io-status"] = error == 0 ? "ok" : error == ENOSPC ? "nospace" : "failed";
  }
  return info;
}

void add_node_infos(const Drive& drive, bool flat, Json& all) {
  if (drive.description.node_name.empty()) return;
  all.push_back(drive_device_info(drive, flat));
  add_lower_nodes(drive.description, all);
}

}  // namespace limen::monitor
