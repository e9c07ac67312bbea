#include "machine/drive.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "block/filters/detect_zeroes.h"
#include "block/filters/temporary_overlay.h"
#include "block/image_file.h"
#include "block/null_device.h"
#include "block/open_image.h"
#include "block/raw_image.h"

namespace limen::machine {

void Drive::close_image() {
  image.reset();
  measured = nullptr;
  errors = nullptr;
  throttle = nullptr;
  gate = nullptr;
}

Result<> DriveOpener::add_group(const std::string& id, const block::ThrottleLimits& limits) {
  groups_[id] = LIMEN_TRY(block::ThrottleGroup::create(limits));
  return {};
}

std::shared_ptr<block::ThrottleGroup> DriveOpener::group(const std::string& id) const {
  const auto found = groups_.find(id);
  return found == groups_.end() ? nullptr : found->second;
}

namespace {

Result<block::OpenOptions> open_options(const DriveDescription& description) {
  block::OpenOptions options;
  // What a machine writes to a snapshot goes elsewhere.
  options.read_only = description.read_only || description.snapshot;
  options.cache = LIMEN_TRY(block::parse_cache_mode(description.cache));
  if (!description.aio.empty()) options.aio = LIMEN_TRY(block::parse_aio_mode(description.aio));
  options.discard_unmap = description.discard_unmap;
  options.lock = description.locking;
  return options;
}

/// A chain whose backing image the description names, whatever the image's header says.
Result<std::unique_ptr<block::Layer>> open_described_layer(const DriveDescription& description,
                                                           const block::OpenOptions& options) {
  if (!description.own_backing)
    return block::open_layer(description.file, {.file = options, .format = description.format});
  auto image =
      LIMEN_TRY(block::open_qcow2(description.file, {.file = options, .with_backing = false}));
  if (description.backing != nullptr) {
    auto below = LIMEN_TRY(open_options(*description.backing));
    below.read_only = true;
    below.lock = below.lock && options.lock;
    image->set_backing(LIMEN_TRY(open_described_layer(*description.backing, below)));
  }
  return image;
}

Result<std::unique_ptr<block::BlockDevice>> open_with(const DriveDescription& description,
                                                      const block::OpenOptions& options) {
  struct stat status {};
  // What another node will see more in than a disk: a qcow2 file ends anywhere.
  const bool odd_file = description.node_driver == "file" &&
                        ::stat(description.file.c_str(), &status) == 0 &&
                        status.st_size % static_cast<off_t>(block::kSectorSize) != 0;
  if (!description.own_backing && !odd_file)
    return block::open_image(description.file, description.format, options);
  return block::layer_as_disk(LIMEN_TRY(open_described_layer(description, options)), options);
}

}  // namespace

Result<std::unique_ptr<block::BlockDevice>> open_disk_image(DriveDescription& description) {
  if (description.format == "null-co")
    return std::make_unique<block::NullDevice>(
        description.null_bytes, description.null_reads_zeroes, description.read_only);
  auto options = LIMEN_TRY(open_options(description));
  if (description.format.empty())
    description.format = LIMEN_TRY(block::guess_format(description.file, options));
  auto image = open_with(description, options);
  if (!image && description.auto_read_only && !options.read_only &&
      (image.error().system_errno == EACCES || image.error().system_errno == EROFS ||
       image.error().system_errno == EPERM)) {
    options.read_only = true;
    image = open_with(description, options);
  }
  return image;
}

std::string DriveOpener::next_node_name() { return fmt::format("#block{:03}", nodes_named_++); }

Result<> DriveOpener::set_limits(Drive& drive, const block::ThrottleLimits& limits,
                                 const std::string& group) {
  LIMEN_TRY(block::check_limits(limits));
  std::shared_ptr<block::ThrottleGroup> joined;
  if (!limits.any()) {
    // Out of the group, which keeps its limits for the others.
    if (unlimited_ == nullptr) unlimited_ = LIMEN_TRY(block::ThrottleGroup::create({}));
    joined = unlimited_;
  } else if (group.empty()) {
    joined = LIMEN_TRY(block::ThrottleGroup::create(limits));
  } else if (auto& named = groups_[group]; named != nullptr) {
    joined = named;
    LIMEN_TRY(joined->set_limits(limits));
  } else {
    joined = named = LIMEN_TRY(block::ThrottleGroup::create(limits));
  }
  drive.throttle->join(std::move(joined));
  drive.description.throttle = limits;
  drive.description.throttle_group = limits.any() ? group : "";
  return {};
}

Result<std::shared_ptr<block::ThrottleGroup>> DriveOpener::group_of(
    const DriveDescription& description) {
  const auto& name = description.throttle_group;
  if (name.empty()) return block::ThrottleGroup::create(description.throttle);
  auto& group = groups_[name];
  // As in QEMU, the last drive of a group that has limits sets them for all.
  if (group == nullptr)
    group = LIMEN_TRY(block::ThrottleGroup::create(description.throttle));
  else if (description.throttle.any())
    LIMEN_TRY(group->set_limits(description.throttle));
  return group;
}

Result<Drive> DriveOpener::open(const DriveDescription& wanted) {
  Drive drive{.description = wanted, .image = nullptr};
  LIMEN_TRY(open_again(drive));
  return drive;
}

Result<> DriveOpener::open_again(Drive& drive) {
  auto& description = drive.description;
  drive.close_image();
  if (description.file.empty() && description.format != "null-co") return {};
  auto device = LIMEN_TRY(open_disk_image(description));
  if (description.node_name.empty()) description.node_name = next_node_name();
  if (description.snapshot && !description.read_only)
    device = LIMEN_TRY(block::TemporaryOverlay::create(std::move(device)));
  auto gate = std::make_unique<block::Gate>(std::move(device));
  auto* const gate_of_drive = gate.get();
  device = std::move(gate);
  if (description.detect_zeroes != "off" && !device->read_only())
    device = std::make_unique<block::DetectZeroes>(std::move(device),
                                                   description.detect_zeroes == "unmap");
  // Also without limits: a person may set some later.
  auto throttle =
      std::make_unique<block::Throttle>(std::move(device), LIMEN_TRY(group_of(description)));
  drive.gate = gate_of_drive;
  drive.throttle = throttle.get();
  device = std::move(throttle);
  if (drive.names == nullptr) drive.names = std::make_shared<DriveNames>();
  {
    const std::lock_guard lock(drive.names->mutex);
    drive.names->device = description.is_node() ? "" : description.id;
    drive.names->node = description.node_name;
  }
  using block::ErrorAction;
  auto errors = std::make_unique<block::ErrorPolicy>(
      std::move(device),
      block::parse_error_action(description.read_errors).value_or(ErrorAction::kReport),
      block::parse_error_action(description.write_errors).value_or(ErrorAction::kEnospc),
      [failed = failed_, names = drive.names](const block::IoError& error) {
        DiskError failure{.device = {}, .node = {}, .error = error};
        {
          const std::lock_guard lock(names->mutex);
          failure.device = names->device;
          failure.node = names->node;
        }
        if (failed) failed(failure);
      });
  drive.errors = errors.get();
  auto measured = std::make_unique<block::Measured>(std::move(errors));
  drive.measured = measured.get();
  drive.image = std::move(measured);
  return {};
}

}  // namespace limen::machine
