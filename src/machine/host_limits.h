// What this host can give a machine.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace limen::machine {

/// Physical memory of the host in bytes.
[[nodiscard]] uint64_t host_memory();

/// Fails for no memory, and for more than `available`.
Result<> check_memory(uint64_t bytes, uint64_t available);

/// "512 MiB", "1.5 GiB".
[[nodiscard]] std::string describe_size(uint64_t bytes);

}  // namespace limen::machine
