// The CPUID instruction: the model's table with what depends on the processor's state filled in.
#pragma once

#include <cstdint>

#include "soft/cpu.h"
#include "x86/cpuid.h"

namespace limen::soft::interpret {

/// The answer to CPUID with EAX = leaf and ECX = subleaf: OSXSAVE follows CR4, the APIC bit follows
/// IA32_APIC_BASE, the sizes of leaf 0DH follow XCR0 and IA32_XSS (SDM Vol. 2A CPUID).
[[nodiscard]] x86::CpuidResult cpuid_answer(const Cpu& cpu, uint32_t leaf, uint32_t subleaf);

}  // namespace limen::soft::interpret
