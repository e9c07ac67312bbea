// A disk image with everything that stands between it and the device: opened from its description.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "block/block_device.h"
#include "block/filters/error_policy.h"
#include "block/filters/measured.h"
#include "block/filters/throttle.h"
#include "machine/description.h"

namespace limen::block::scsi {
class Cd;
}

namespace limen::machine {

/// An error of a disk's, for BLOCK_IO_ERROR.
struct DiskError {
  std::string device;  ///< The drive's id.
  std::string node;
  block::IoError error;
};

struct Drive {
  DriveDescription description;
  std::unique_ptr<block::BlockDevice> image;  ///< Null: an empty drive.
  block::Measured* measured = nullptr;        ///< The first filter of `image`.
  block::ErrorPolicy* errors = nullptr;       ///< The second.
  block::Throttle* throttle = nullptr;        ///< A filter of `image`.
  block::scsi::Cd* cd = nullptr;              ///< The CD drive that it is in, if it is one's.
  bool in_use = false;
};

/// Opens drives; those of one machine share their throttle groups.
class DriveOpener {
 public:
  /// `failed` is called on any thread; for an action of kStop the machine must stop.
  explicit DriveOpener(std::function<void(const DiskError&)> failed) : failed_(std::move(failed)) {}

  Result<> add_group(const ThrottleGroupDescription& description);
  void remove_group(const std::string& id) { groups_.erase(id); }
  /// The drive's description has a format where `wanted` had none.
  Result<Drive> open(const DriveDescription& wanted);
  /// Group `id`, or null.
  [[nodiscard]] std::shared_ptr<block::ThrottleGroup> group(const std::string& id) const;

 private:
  Result<std::unique_ptr<block::BlockDevice>> open_image(DriveDescription& description);
  Result<std::shared_ptr<block::ThrottleGroup>> group_of(const DriveDescription& description);

  const std::function<void(const DiskError&)> failed_;
  std::map<std::string, std::shared_ptr<block::ThrottleGroup>> groups_;
};

}  // namespace limen::machine
