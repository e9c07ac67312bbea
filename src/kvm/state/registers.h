// General, segment, control and debug registers in the kernel's structures.
#pragma once

#include "kvm/kernel.h"
#include "x86/cpu_state.h"

namespace limen::kvm {

[[nodiscard]] kvm_segment to_kernel(const x86::Segment& segment);
[[nodiscard]] x86::Segment from_kernel(const kvm_segment& segment);

[[nodiscard]] kvm_regs general_registers(const x86::CpuState& state);
void take_general_registers(const kvm_regs& from, x86::CpuState& state);

/// Leaves what the local APIC has (CR8, APIC base, the interrupt under way) as it is in `into`.
void fill_system_registers(const x86::SystemState& system, kvm_sregs& into);
void take_system_registers(const kvm_sregs& from, x86::SystemState& system);

[[nodiscard]] kvm_debugregs debug_registers(const x86::SystemState& system);
void take_debug_registers(const kvm_debugregs& from, x86::SystemState& system);

}  // namespace limen::kvm
