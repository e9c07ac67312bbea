// Features that decide whether an instruction or a control bit exists for this guest.
#pragma once

#include <cstdint>

#include "soft/cpu.h"

namespace limen::soft::interpret {

enum class Feature : uint8_t {
  // CPUID.1:EDX
  kVme,
  kDebugExtensions,
  kPse,
  kTsc,
  kMsr,
  kPae,
  kMce,
  kSysenter,
  kPge,
  kClflush,
  kFxsr,
  // CPUID.1:ECX
  kPcid,
  kXsave,
  // CPUID.7.0
  kFsgsbase,
  kSmep,
  kInvpcid,
  kSmap,
  kClflushopt,
  kClwb,
  kUmip,
  kRdpid,
  kCldemote,
  kPks,
  // CPUID.80000001H
  kSyscall,
  kNx,
  kRdtscp,
  kLongMode,
  // CPUID.80000008H
  kWbnoinvd,
  kClzero,
};

/// Whether CPUID shows the feature.
[[nodiscard]] bool has_feature(const Cpu& cpu, Feature feature);

/// Whether CPUID names AMD (or Hygon) as vendor: the two differ in SYSCALL, SYSRET and SYSENTER.
[[nodiscard]] bool is_amd(const Cpu& cpu);

}  // namespace limen::soft::interpret
