// The host's time-stamp counter.
#pragma once

#include <cstdint>

namespace limen {

/// How often the host's time-stamp counter ticks in a second: as CPUID says (leaf 15H, SDM Vol. 3A
/// 19.7.3; or a hypervisor's leaf 40000010H), else as the kernel's KVM does where it is there, else
/// measured once against the system clock, which takes some 20 milliseconds. Thread-safe.
uint64_t host_tsc_hz();

}  // namespace limen
