// What a guest of the software engine can be shown by CPUID.
#pragma once

#include "x86/cpuid.h"

namespace limen::soft {

/// The host's CPUID without what the engine does not run, with what the engine provides itself
/// whatever the host has (paging features, x2APIC, TSC deadline, ARCH_CAPABILITIES). One package
/// with one core that has APIC ID 0; KVM's paravirtual interface in leaves 40000000H and 40000001H.
[[nodiscard]] x86::CpuidTable supported_cpuid();

/// As above, from a given host table (for tests) and TSC frequency.
[[nodiscard]] x86::CpuidTable supported_cpuid(const x86::CpuidTable& host, uint64_t tsc_hz);

}  // namespace limen::soft
