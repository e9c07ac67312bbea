// A processor's registers, written for a person.
#pragma once

#include <string>
#include <string_view>

#include "x86/cpu_state.h"

namespace limen::machine {

/// General, segment and control registers, several to a line.
[[nodiscard]] std::string format_registers(const x86::CpuState& state);

/// What stands on standard error when the guest died: what happened, the registers and the last
/// instructions (see Vcpu::recent_instructions()).
[[nodiscard]] std::string crash_report(std::string_view what, const x86::CpuState& state,
                                       std::string_view recent_instructions);

}  // namespace limen::machine
