// The checks of control registers that come before an instruction of each class.
#pragma once

#include "soft/cpu.h"
#include "soft/interpret/native/features.h"

namespace limen::soft::interpret::native {

[[noreturn]] inline void raise_plain(x86::Vector vector) { throw x86::Exception::plain(vector); }

inline bool may_use_sse(const Cpu& cpu) {
  const uint64_t blocked = (cpu.system.cr0 & (x86::cr0::kEmulation | x86::cr0::kTaskSwitched)) |
                           (~cpu.system.cr4 & x86::cr4::kOsfxsr);
  return blocked == 0;
}

/// Raises #UD or #NM if the control registers do not allow instructions of the class.
template <Check kCheck>
inline void check(const Cpu& cpu) {
  using namespace x86;  // NOLINT(google-build-using-namespace): control-register names
  const auto& system = cpu.system;
  if constexpr (kCheck == Check::kX87) {
    if (system.cr0 & (cr0::kEmulation | cr0::kTaskSwitched)) [[unlikely]]
      raise_plain(Vector::kDeviceNotAvailable);
  } else if constexpr (kCheck == Check::kMmx) {
    if (system.cr0 & (cr0::kEmulation | cr0::kTaskSwitched)) [[unlikely]]
      raise_plain(system.cr0 & cr0::kEmulation ? Vector::kInvalidOpcode
                                               : Vector::kDeviceNotAvailable);
  } else if constexpr (kCheck == Check::kSse) {
    if (!may_use_sse(cpu)) [[unlikely]]
      raise_plain((system.cr0 & cr0::kEmulation) || !(system.cr4 & cr4::kOsfxsr)
                      ? Vector::kInvalidOpcode
                      : Vector::kDeviceNotAvailable);
  } else if constexpr (kCheck == Check::kVexGeneral) {
    if (!cpu.protected_mode) [[unlikely]]
      raise_plain(Vector::kInvalidOpcode);
  } else if constexpr (kCheck == Check::kAvx || kCheck == Check::kAvx512) {
    constexpr uint64_t kWanted =
        xcr0::kSse | xcr0::kAvx | (kCheck == Check::kAvx512 ? xcr0::kAvx512 : 0);
    if (!cpu.protected_mode || !(system.cr4 & cr4::kOsxsave) || (system.xcr0 & kWanted) != kWanted)
        [[unlikely]]
      raise_plain(Vector::kInvalidOpcode);
    if (system.cr0 & cr0::kTaskSwitched) [[unlikely]]
      raise_plain(Vector::kDeviceNotAvailable);
  }
}

/// Raises what the host reported for a thunk, as the guest's control registers want it
/// (SDM Vol. 3A 6.15, #MF and #XM).
[[noreturn]] void raise_reported(const Cpu& cpu, uint32_t number);

}  // namespace limen::soft::interpret::native
