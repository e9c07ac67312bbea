// A device as JSON describes it, for -device. (device_add takes text for every type, as in QEMU.)
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/result.h"
#include "machine/description.h"

namespace limen::machine {

/// {"driver": "virtio-blk-pci", "num-queues": 2, ...}, every property of the type that the catalog
/// gives it. Nothing else is checked: check_device() does. Errors are worded as QEMU's.
Result<DeviceDescription> device_from_json(const nlohmann::json& object);

}  // namespace limen::machine
