#include "machine/block_control.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "block/image_file.h"
#include "block/image_tool.h"
#include "block/null_device.h"
#include "block/open_image.h"
#include "block/qcow2/create.h"
#include "block/scsi/cd.h"

namespace limen::machine {
namespace {

constexpr std::string_view kBackendEnd = "/virtio-backend";

/// Whether the drive shows its own chain; a node that is part of another does not.
bool stands_alone(const Drive& drive) { return drive.description.parent.empty() && !drive.lent; }

bool same_file(const std::string& one, const std::string& other) {
  struct stat first {
  }, second{};
  return ::stat(one.c_str(), &first) == 0 && ::stat(other.c_str(), &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/// The names of all nodes of a chain.
bool has_name(const DriveDescription& description, std::string_view name) {
  if (description.node_name == name) return true;
  if (std::ranges::find(description.nodes, name, &NodeName::name) != description.nodes.end())
    return true;
  return description.backing != nullptr && has_name(*description.backing, name);
}

/// Which image it is and how it is opened, from a node.
void take_image(DriveDescription& drive, const DriveDescription& node) {
  drive.file = node.file;
  drive.format = node.format;
  drive.read_only = node.read_only;
  drive.auto_read_only = node.auto_read_only;
  drive.cache = node.cache;
  drive.aio = node.aio;
  drive.discard_unmap = node.discard_unmap;
  drive.locking = node.locking;
  drive.null_bytes = node.null_bytes;
  drive.null_reads_zeroes = node.null_reads_zeroes;
  drive.own_backing = node.own_backing;
  drive.backing = node.backing;
  drive.node_name = node.node_name;
  drive.node_driver = node.node_driver;
  drive.nodes = node.nodes;
}

/// An empty drive's.
void drop_image(DriveDescription& drive) {
  drive.file.clear();
  drive.format.clear();
  drive.own_backing = false;
  drive.backing = nullptr;
  drive.node_name.clear();
  drive.node_driver.clear();
  drive.nodes.clear();
}

Result<> make_overlay(const std::string& path, const DriveDescription& below, uint64_t size) {
  std::error_code ignored;
  auto backing = std::filesystem::absolute(below.file, ignored).lexically_normal().string();
  const bool existed = ::access(path.c_str(), F_OK) == 0;
  const auto fill = [&]() -> Result<> {
    LIMEN_TRY(block::create_image(path, 0));
    const auto file = LIMEN_TRY(block::FileLayer::open(path, {}));
    LIMEN_TRY(block::qcow2::create(
        *file, {.size = size, .backing_file = backing, .backing_format = below.format}));
    if (const int error = file->flush(); error != 0)
      return fail_errno(error, fmt::format("writing image '{}'", path));
    return {};
  };
  auto filled = fill();
  if (!filled && !existed) ::unlink(path.c_str());
  return filled;
}

}  // namespace

// --- Finding ------------------------------------------------------------------------------------

Drive* BlockControl::find_drive(std::string_view id) {
  for (auto& drive : drives_)
    if (!id.empty() && drive.description.id == id && !drive.description.is_node()) return &drive;
  return nullptr;
}

Drive* BlockControl::find_by_device(std::string_view device) {
  if (device.empty()) return nullptr;
  for (auto& drive : drives_) {
    if (!drive.in_use || drive.lent) continue;
    std::string_view path = drive.device_path;
    if (drive.device_id == device || path == device) return &drive;
    if (path.ends_with(kBackendEnd)) path.remove_suffix(kBackendEnd.size());
    if (path == device) return &drive;
  }
  return nullptr;
}

Drive* BlockControl::find_node(std::string_view name) {
  for (auto& drive : drives_)
    if (!name.empty() && drive.description.node_name == name && stands_alone(drive)) return &drive;
  return nullptr;
}

Result<> BlockControl::check_name(const std::string& name) {
  for (const auto& drive : drives_) {
    if (has_name(drive.description, name)) return fail("Duplicate nodes with node-name='{}'", name);
    if (drive.description.id == name)
      return fail("node-name={} is conflicting with a device id", name);
  }
  return {};
}

// --- Nodes and drives that come and go ----------------------------------------------------------

Result<> BlockControl::add_node(const nlohmann::json& options) {
  const NodeSurroundings surroundings{
      .find = [this](const std::string& name) -> const DriveDescription* {
        for (const auto& drive : drives_)
          if (drive.description.node_name == name || drive.description.id == name)
            return &drive.description;
        for (const auto& drive : drives_)
          if (has_name(drive.description, name)) return &drive.description;
        return nullptr;
      },
      .has_throttle_group =
          [this](const std::string& id) { return board_.drive_opener().group(id) != nullptr; }};
  auto node = LIMEN_TRY(parse_node(options, surroundings));
  const auto find_child = [this](const std::string& name) -> Drive& {
    return *std::ranges::find_if(drives_,
                                 [&](const Drive& d) { return d.description.node_name == name; });
  };
  for (const auto& name : node.children)
    if (const auto& child = find_child(name); child.in_use || !child.description.is_node())
      return fail("Node '{}' is busy: node is used as the disk of a device", name);
  // The whole chain is opened at once; its parts must not be open on their own meanwhile.
  for (const auto& name : node.children) find_child(name).close_image();
  auto opened = board_.drive_opener().open(node.description);
  if (!opened) {
    for (const auto& name : node.children)
      if (auto again = board_.drive_opener().open_again(find_child(name)); !again)
        log::warning("node '{}': {}", name, again.error().message);
    return std::unexpected(std::move(opened).error());
  }
  for (const auto& name : node.children)
    find_child(name).description.parent = node.description.node_name;
  drives_.push_back(std::move(*opened));
  return {};
}

Result<> BlockControl::delete_node(const std::string& name) {
  const auto found = std::ranges::find_if(
      drives_, [&](const Drive& drive) { return drive.description.node_name == name; });
  if (found == drives_.end()) {
    const bool inner = std::ranges::any_of(
        drives_, [&](const Drive& drive) { return has_name(drive.description, name); });
    if (inner) return fail("Node {} is not owned by the monitor", name);
    return fail("Failed to find node with node-name='{}'", name);
  }
  if (found->in_use) return fail("Node {} is in use", name);
  if (!found->description.is_node() || found->description.implicit)
    return fail("Node {} is not owned by the monitor", name);
  if (!found->description.parent.empty()) return fail("Block device {} is in use", name);
  // Everything is on the disk before anybody is told that the file is free.
  Result<> flushed;
  if (found->image != nullptr) flushed = found->image->drain();
  drives_.erase(found);
  // What it consisted of stands alone again, and is opened when it is used.
  for (auto& drive : drives_)
    if (drive.description.parent == name) drive.description.parent.clear();
  if (!flushed) log::warning("node '{}': {}", name, flushed.error().message);
  return {};
}

Result<> BlockControl::delete_drive(const std::string& id) {
  auto* drive = find_drive(id);
  if (drive == nullptr) return fail("Device '{}' not found", id);
  if (drive->in_use)
    return fail("Node {} is in use by device '{}'", drive->description.node_name,
                drive->device_path);
  Result<> flushed;
  if (drive->image != nullptr) flushed = drive->image->drain();
  std::erase_if(drives_, [&](const Drive& each) { return &each == drive; });
  return flushed;
}

// --- Size ---------------------------------------------------------------------------------------

Result<> BlockControl::resize(Drive& drive, uint64_t size) {
  if (drive.image == nullptr && drive.description.is_node())
    LIMEN_TRY(board_.drive_opener().open_again(drive));
  if (drive.image == nullptr) return fail("Device '{}' has no medium", drive.description.id);
  if (size % block::kSectorSize != 0)
    return fail("The new size must be a multiple of {}", block::kSectorSize);
  if (drive.gate->read_only()) return fail("Block node is read-only");
  LIMEN_TRY(drive.gate->resize(size));
  if (drive.resized) drive.resized();
  return {};
}

// --- Overlays -----------------------------------------------------------------------------------

Result<> BlockControl::check_overlay(const Drive& drive, const std::string& file) {
  const auto& description = drive.description;
  if (drive.image == nullptr) return fail("Device '{}' has no medium", description.id);
  if (description.snapshot)
    return fail("Device '{}' writes to a temporary file (snapshot=on), which nothing can lie on",
                description.id);
  if (description.format == "null-co")
    return fail("a backing image is a file here, not '{}'", description.format);
  for (const auto& other : drives_)
    for (const auto* layer = &other.description; layer != nullptr; layer = layer->backing.get())
      if (!layer->file.empty() && other.image != nullptr && same_file(layer->file, file))
        return fail("Failed to get \"write\" lock: image '{}' is in use by node '{}'", file,
                    layer->node_name);
  return {};
}

Result<> BlockControl::check_snapshot(Drive& drive, const Overlay& overlay) {
  if (overlay.format != "qcow2") {
    if (overlay.format == "raw" || overlay.format == "null-co")
      return fail("The overlay does not support backing images");
    return fail("Unknown driver '{}'", overlay.format);
  }
  if (overlay.file.empty()) return fail("The 'file' block driver requires a file name");
  if (!overlay.node_name.empty()) LIMEN_TRY(check_name(overlay.node_name));
  if (!overlay.existing) return check_overlay(drive, overlay.file);
  if (::access(overlay.file.c_str(), F_OK) != 0)
    return fail_errno(errno, fmt::format("Could not open '{}'", overlay.file));
  return check_overlay(drive, overlay.file);
}

Result<> BlockControl::snapshot(Drive& drive, const Overlay& overlay) {
  LIMEN_TRY(check_snapshot(drive, overlay));
  if (!overlay.existing)
    LIMEN_TRY(make_overlay(overlay.file, drive.description, drive.gate->size()));
  DriveDescription fresh = drive.description;
  fresh.file = overlay.file;
  fresh.format = "qcow2";
  fresh.node_driver = "qcow2";
  fresh.node_name =
      overlay.node_name.empty() ? board_.drive_opener().next_node_name() : overlay.node_name;
  fresh.nodes.clear();
  fresh.implicit = drive.in_use && drive.description.is_node();
  return switch_to(drive, std::move(fresh));
}

Result<> BlockControl::snapshot(Drive& drive, const std::string& overlay_node) {
  auto* overlay = find_node(overlay_node);
  if (overlay == nullptr)
    return fail("Cannot find device='{}' nor node-name='{}'", overlay_node, overlay_node);
  if (overlay == &drive || overlay->in_use || !overlay->description.is_node())
    return fail("The overlay is already in use");
  if (overlay->description.format != "qcow2")
    return fail("The overlay does not support backing images");
  if (overlay->description.backing != nullptr)
    return fail("The overlay already has a backing image");
  LIMEN_TRY(check_overlay(drive, "/"));
  DriveDescription fresh = drive.description;
  take_image(fresh, overlay->description);
  fresh.implicit = false;
  overlay->close_image();
  overlay->lent = true;
  auto switched = switch_to(drive, std::move(fresh));
  const auto left =
      std::ranges::find_if(drives_, [](const Drive& each) { return each.lent && !each.in_use; });
  if (switched)
    drives_.erase(left);
  else
    left->lent = false;
  return switched;
}

/// The drive's image becomes the backing image of `fresh`, which has it in place of what its header
/// says.
Result<> BlockControl::switch_to(Drive& drive, DriveDescription fresh) {
  auto old = drive.description;
  auto below = old;
  below.read_only = true;
  fresh.own_backing = true;
  fresh.backing = std::make_shared<const DriveDescription>(below);
  const uint64_t old_size = drive.gate->size();
  const bool was_node = old.is_node();
  LIMEN_TRY(drive.gate->exchange([&](std::unique_ptr<block::BlockDevice>& image) -> Result<> {
    // Once beside the image that is still open: nearly all that can go wrong goes wrong here.
    auto rehearsed = fresh;
    rehearsed.locking = false;
    static_cast<void>(LIMEN_TRY(open_disk_image(rehearsed)));
    image.reset();
    auto opened = open_disk_image(fresh);
    if (opened) {
      image = std::move(*opened);
      return {};
    }
    auto again = old;
    auto restored = open_disk_image(again);
    again.locking = false;
    if (!restored) restored = open_disk_image(again);
    if (restored) {
      image = std::move(*restored);
    } else {
      log::error("disk '{}' is lost to the guest: {}", old.id, restored.error().message);
      image = std::make_unique<block::MissingDevice>(old_size);
    }
    return std::unexpected(std::move(opened).error());
  }));
  drive.description = std::move(fresh);
  if (was_node) drive.description.id = drive.description.node_name;
  {
    const std::lock_guard lock(drive.names->mutex);
    drive.names->node = drive.description.node_name;
  }
  if (drive.gate->size() != old_size && drive.resized) drive.resized();
  if (was_node) {
    // Its maker may take it away once the overlay is.
    old.parent = drive.description.node_name;
    old.throttle = {};
    drives_.push_back({.description = std::move(old)});
  }
  return {};
}

// --- Removable media ----------------------------------------------------------------------------

Result<bool> BlockControl::open_tray(Drive& drive, bool force, const std::string& called) {
  if (drive.cd == nullptr) {
    if (drive.in_use) return fail("Device '{}' is not removable", called);
    return true;
  }
  if (drive.cd->tray_open()) return true;
  if (auto opened = drive.cd->open_tray(force); !opened) return false;
  return true;
}

Result<> BlockControl::close_tray(Drive& drive, const std::string& called) {
  if (drive.cd == nullptr)
    return drive.in_use ? fail("Device '{}' is not removable", called) : Result<>();
  drive.cd->close_tray();
  return {};
}

Result<> BlockControl::remove_medium(Drive& drive, const std::string& called) {
  if (drive.in_use && drive.cd == nullptr) return fail("Device '{}' is not removable", called);
  if (drive.cd != nullptr && !drive.cd->tray_open())
    return fail("Tray of device '{}' is not open", called);
  if (drive.image == nullptr) return {};
  if (drive.cd != nullptr) LIMEN_TRY(drive.cd->change_medium(nullptr));
  const auto flushed = drive.image->drain();
  drive.close_image();
  auto medium = drive.description;
  drop_image(drive.description);
  if (medium.is_node()) {
    // The node was not made for this drive: it stays.
    drive.description.id.clear();
    drives_.push_back({.description = std::move(medium)});
  } else {
    for (auto& other : drives_)
      if (other.lent && other.description.node_name == medium.node_name)
        other.lent = other.in_use = false;
  }
  return flushed;
}

Result<> BlockControl::insert(Drive& drive, const DriveDescription& description,
                              const std::string& called) {
  if (drive.in_use && drive.cd == nullptr) return fail("Device '{}' is not removable", called);
  if (drive.cd != nullptr && !drive.cd->tray_open())
    return fail("Tray of device '{}' is not open", called);
  if (drive.image != nullptr) return fail("There already is a medium in device '{}'", called);
  auto before = std::exchange(drive.description, description);
  auto* const opener = &board_.drive_opener();
  if (auto opened = opener->open_again(drive); !opened) {
    drive.description = std::move(before);
    return opened;
  }
  if (drive.thread != nullptr) drive.image->run_on(*drive.thread);
  if (drive.cd != nullptr) LIMEN_TRY(drive.cd->change_medium(drive.image.get()));
  return {};
}

Result<> BlockControl::insert_medium(Drive& drive, const std::string& node,
                                     const std::string& called) {
  auto* medium = find_node(node);
  if (medium == nullptr) return fail("Node '{}' not found", node);
  if (medium->in_use) return fail("Node '{}' is already in use", node);
  auto description = drive.description;
  take_image(description, medium->description);
  medium->close_image();
  LIMEN_TRY(insert(drive, description, called));
  medium->lent = medium->in_use = true;
  return {};
}

Result<> BlockControl::change_medium(Drive& drive, const Medium& medium, bool force,
                                     const std::string& called) {
  auto description = drive.description;
  if (description.is_node()) description.id.clear();
  drop_image(description);
  description.file = LIMEN_TRY(plain_image_path(medium.file));
  description.format = medium.format;
  description.read_only = drive.cd != nullptr || medium.read_only.value_or(description.read_only);
  // What cannot be read is not put into a drive that then would be empty.
  auto rehearsed = description;
  rehearsed.locking = rehearsed.locking && (drive.image == nullptr ||
                                            !same_file(description.file, drive.description.file));
  static_cast<void>(LIMEN_TRY(open_disk_image(rehearsed)));
  description.format = rehearsed.format;
  if (!LIMEN_TRY(open_tray(drive, force, called)))
    return fail(
        "Device '{}' is locked and force was not specified, wait for tray to open and try again",
        called);
  // remove_medium() may make the list of drives longer.
  const auto place = static_cast<size_t>(&drive - drives_.data());
  LIMEN_TRY(remove_medium(drive, called));
  Drive& target = drives_[place];
  LIMEN_TRY(insert(target, description, called));
  return close_tray(target, called);
}

}  // namespace limen::machine
