// Objects that machines and devices refer to by id: QEMU's -object and object-add.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "block/filters/throttle_limits.h"
#include "machine/description.h"
#include "machine/device_catalog.h"

namespace limen::machine {

struct ObjectSpecification {
  std::string_view type;
  std::string_view help;
  std::span<const PropertySpecification> properties;
};

[[nodiscard]] std::span<const ObjectSpecification> object_catalog();
/// Null: there is none.
[[nodiscard]] const ObjectSpecification* find_object_type(std::string_view type);
/// The same; the error names the nearest.
Result<const ObjectSpecification*> object_type(std::string_view name);
[[nodiscard]] bool is_memory_backend(std::string_view type);

/// Checks that type, id, properties and values are ones that there are, and that a secret can be
/// read.
Result<> check_object(const ObjectDescription& object);

/// What a checked secret keeps. Fails for a file that cannot be read and for what is not Base64.
Result<std::string> secret_data(const ObjectDescription& secret);

/// Of a throttle-group: "limits.iops-total" and the like, or the older "x-iops-total".
Result<block::ThrottleLimits> throttle_limits(const ObjectDescription& group);

/// What a checked memory-backend-* says.
struct MemoryBackend {
  uint64_t size = 0;
  bool share = false;
  bool prealloc = false;
  bool merge = true;
  bool dump = true;
  bool reserve = true;
};
[[nodiscard]] MemoryBackend memory_backend(const ObjectDescription& object);
/// The file behind it, of its size.
Result<UniqueFd> open_memory(const ObjectDescription& object);

}  // namespace limen::machine
