// Memory of the guest's, saved to a file of the host's.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace limen::machine {
class Machine;
}

namespace limen::monitor {

/// As processor `index` sees it. Errors are worded as QEMU's.
Result<> save_linear_memory(machine::Machine& machine, unsigned index, uint64_t address,
                            uint64_t size, const std::string& path);
Result<> save_physical_memory(machine::Machine& machine, uint64_t address, uint64_t size,
                              const std::string& path);

}  // namespace limen::monitor
