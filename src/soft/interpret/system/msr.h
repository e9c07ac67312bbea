// Model-specific registers (SDM Vol. 4; APM Vol. 2 appendix A).
#pragma once

#include <cstdint>

#include "soft/cpu.h"

namespace limen::soft::interpret {

/// What RDMSR reads. False: there is no such register, #GP(0). The caller has checked CPL.
[[nodiscard]] bool read_msr(Cpu& cpu, uint32_t index, uint64_t& value);

/// What WRMSR does, with all that follows from it (mode, MMU). False: no such register, or a value
/// that it does not take; nothing changed; #GP(0).
[[nodiscard]] bool write_msr(Cpu& cpu, uint32_t index, uint64_t value);

}  // namespace limen::soft::interpret
