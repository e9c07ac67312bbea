// A disk image with everything that stands between it and the device: opened from its description.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"
#include "block/block_device.h"
#include "block/filters/error_policy.h"
#include "block/filters/gate.h"
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

/// What a drive is called, for errors of requests that end on any thread.
struct DriveNames {
  std::mutex mutex;
  std::string device;  // guarded by mutex
  std::string node;    // guarded by mutex
};

/// Belongs to the loop's thread; `image` itself is for any.
struct Drive {
  DriveDescription description = {};
  std::unique_ptr<block::BlockDevice> image = {};  ///< Null: empty, or a node that is not open.
  block::Measured* measured = nullptr;             ///< The first filter of `image`.
  block::ErrorPolicy* errors = nullptr;            ///< The second.
  block::Throttle* throttle = nullptr;             ///< A filter of `image`.
  block::Gate* gate = nullptr;                     ///< The last filter, right before the image.
  block::scsi::Cd* cd = nullptr;                   ///< The CD drive that it is in, if it is one's.
  std::shared_ptr<DriveNames> names = {};
  bool in_use = false;
  bool lent = false;  ///< A node that is the medium of a drive: in use, and not open itself.
  // Of the device that has it:
  const void* user = nullptr;  ///< The device itself, to tell it from others.
  std::string device_id = {};
  std::string device_path = {};        ///< Among QOM's objects.
  LoopThread* thread = nullptr;        ///< That the device makes its requests on, if it has one.
  std::function<void()> resized = {};  ///< Tells the device that the size is another.

  /// Without `image` and what points into it.
  void close_image();
};

/// The drives' image alone, opened as the description says; the format is put into it where it had
/// none.
Result<std::unique_ptr<block::BlockDevice>> open_disk_image(DriveDescription& description);

/// Opens drives; those of one machine share their throttle groups.
class DriveOpener {
 public:
  /// `failed` is called on any thread; for an action of kStop the machine must stop.
  explicit DriveOpener(std::function<void(const DiskError&)> failed) : failed_(std::move(failed)) {}

  Result<> add_group(const std::string& id, const block::ThrottleLimits& limits);
  void remove_group(const std::string& id) { groups_.erase(id); }
  /// The drive's description has a format where `wanted` had none.
  Result<Drive> open(const DriveDescription& wanted);
  /// Opens what the drive's description says, in place of what it has.
  Result<> open_again(Drive& drive);
  /// Group `id`, or null.
  [[nodiscard]] std::shared_ptr<block::ThrottleGroup> group(const std::string& id) const;
  /// The limits of a drive that has an image. With a name it shares them with all that have it.
  Result<> set_limits(Drive& drive, const block::ThrottleLimits& limits, const std::string& group);
  /// For a node that nobody gave a name: "#block000" and so on.
  [[nodiscard]] std::string next_node_name();

 private:
  Result<std::shared_ptr<block::ThrottleGroup>> group_of(const DriveDescription& description);

  const std::function<void(const DiskError&)> failed_;
  std::map<std::string, std::shared_ptr<block::ThrottleGroup>> groups_;
  std::shared_ptr<block::ThrottleGroup> unlimited_;  ///< Of drives whose limits were lifted.
  unsigned nodes_named_ = 0;
};

}  // namespace limen::machine
