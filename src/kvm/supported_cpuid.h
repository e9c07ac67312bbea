// What a guest of the kernel's can be shown.
#pragma once

#include "base/result.h"
#include "kvm/device.h"
#include "x86/cpuid.h"

namespace limen::kvm {

/// Device::raw_cpuid() with what a monitor has to add or to take away: the hypervisor bit, and the
/// features of a local APIC, which the kernel has if `kernel_local_apic`. What tells processors
/// apart is the host's here.
Result<x86::CpuidTable> supported_cpuid(const Device& device, bool kernel_local_apic);

/// Has a vCPU answer CPUID so (KVM_SET_CPUID2).
Result<> set_cpuid(int vcpu, const x86::CpuidTable& table);

}  // namespace limen::kvm
