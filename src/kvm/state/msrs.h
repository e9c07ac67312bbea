// Model-specific registers: those that CpuState has, and those that a kernel takes.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "base/result.h"
#include "kvm/device.h"
#include "x86/cpu_state.h"

namespace limen::kvm {

/// Moves MSRs between SystemState and a machine's processors. What a kernel lists is discovered,
/// what it refuses for all that (and that does not stand as after reset) is warned of once.
/// Thread-safe.
class Msrs {
 public:
  explicit Msrs(const Device& device);

  void save(int vcpu, x86::SystemState& into);
  void restore(int vcpu, const x86::SystemState& from);
  /// CpuState::other_msrs that a processor has, with the values after reset, which it has by now.
  [[nodiscard]] std::vector<x86::Msr> others(int vcpu) const;
  /// What stands otherwise than `reset`, which others() gave.
  [[nodiscard]] static std::vector<x86::Msr> save_others(int vcpu,
                                                         const std::vector<x86::Msr>& reset);
  /// Sets those of `reset`, which others() gave, to what `from` has.
  void restore_others(int vcpu, const std::vector<x86::Msr>& reset,
                      const std::vector<x86::Msr>& from);
  /// One of them; nothing: refused.
  static std::optional<uint64_t> read(int vcpu, uint32_t index);
  static bool write(int vcpu, uint32_t index, uint64_t value);

 private:
  void warn(uint32_t index);

  std::vector<uint32_t> indices_;  ///< Of CpuState's, those that the kernel has.
  std::vector<uint32_t> others_;   ///< The same of CpuState::other_msrs.
  std::mutex mutex_;
  std::set<uint32_t> refused_;  // guarded by mutex_
};

}  // namespace limen::kvm
