#include "machine/drive.h"

#include "block/filters/detect_zeroes.h"
#include "block/filters/temporary_overlay.h"
#include "block/null_device.h"
#include "block/open_image.h"
#include "block/raw_image.h"

namespace limen::machine {

Result<> DriveOpener::add_group(const ThrottleGroupDescription& description) {
  groups_[description.id] = LIMEN_TRY(block::ThrottleGroup::create(description.limits));
  return {};
}

std::shared_ptr<block::ThrottleGroup> DriveOpener::group(const std::string& id) const {
  const auto found = groups_.find(id);
  return found == groups_.end() ? nullptr : found->second;
}

Result<std::unique_ptr<block::BlockDevice>> DriveOpener::open_image(DriveDescription& description) {
  if (description.format == "null-co")
    return std::make_unique<block::NullDevice>(
        description.null_bytes, description.null_reads_zeroes, description.read_only);
  block::OpenOptions options;
  // What a machine writes to a snapshot goes elsewhere.
  options.read_only = description.read_only || description.snapshot;
  options.cache = LIMEN_TRY(block::parse_cache_mode(description.cache));
  if (!description.aio.empty()) options.aio = LIMEN_TRY(block::parse_aio_mode(description.aio));
  options.discard_unmap = description.discard_unmap;
  options.lock = description.locking;
  if (description.format.empty())
    description.format = LIMEN_TRY(block::guess_format(description.file, options));
  auto image = block::open_image(description.file, description.format, options);
  if (!image && description.auto_read_only && !options.read_only &&
      (image.error().system_errno == EACCES || image.error().system_errno == EROFS ||
       image.error().system_errno == EPERM)) {
    options.read_only = true;
    image = block::open_image(description.file, description.format, options);
  }
  return image;
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
  auto& description = drive.description;
  if (description.file.empty() && description.format != "null-co") return drive;
  auto device = LIMEN_TRY(open_image(description));
  if (description.snapshot && !description.read_only)
    device = LIMEN_TRY(block::TemporaryOverlay::create(std::move(device)));
  if (description.detect_zeroes != "off" && !device->read_only())
    device = std::make_unique<block::DetectZeroes>(std::move(device),
                                                   description.detect_zeroes == "unmap");
  // Also without limits: a person may set some later.
  auto throttle =
      std::make_unique<block::Throttle>(std::move(device), LIMEN_TRY(group_of(description)));
  drive.throttle = throttle.get();
  device = std::move(throttle);
  using block::ErrorAction;
  auto errors = std::make_unique<block::ErrorPolicy>(
      std::move(device),
      block::parse_error_action(description.read_errors).value_or(ErrorAction::kReport),
      block::parse_error_action(description.write_errors).value_or(ErrorAction::kEnospc),
      [failed = failed_, id = description.id,
       node = description.node_name](const block::IoError& error) {
        if (failed) failed({id, node, error});
      });
  drive.errors = errors.get();
  auto measured = std::make_unique<block::Measured>(std::move(errors));
  drive.measured = measured.get();
  drive.image = std::move(measured);
  return drive;
}

}  // namespace limen::machine
