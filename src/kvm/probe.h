// What is behind /dev/kvm: a guest that is run for a moment. Processor flags and a machine that can
// be made prove nothing: a paravirtual back end runs ring 3 natively and emulates ring 0
// instruction by instruction, some thousand times slower.
#pragma once

#include <string>

#include "kvm/device.h"

namespace limen::kvm {

struct ProbeResult {
  bool runs =
      false;  ///< The loop came to an end in both rings, or time ran out in the middle of it.
  // Instructions a second of the same loop (kProbeLoop); 0: not measured.
  double native_rate = 0;
  double kernel_rate = 0;    ///< In ring 0.
  double user_rate = 0;      ///< In ring 3.
  bool breakpoint = false;   ///< INT3 in ring 0, which every Linux kernel tries while it boots.
  bool system_call = false;  ///< SYSCALL from ring 3 and SYSRET.
  /// What failed where, for a person, as in "INT3 in ring 0: emulation failure"; empty: nothing.
  std::string trouble = {};

  /// The part of native speed below which a guest's kernel is better off with -accel soft.
  static constexpr double kLeastRatio = 0.1;
  /// The same, where this process may not make code and native speed is not known. What emulates
  /// is a long way below it.
  static constexpr double kLeastRate = 200e6;
  [[nodiscard]] double kernel_ratio() const {
    return native_rate > 0 ? kernel_rate / native_rate : 0;
  }
  [[nodiscard]] double user_ratio() const { return native_rate > 0 ? user_rate / native_rate : 0; }
  [[nodiscard]] bool emulates_kernel() const {
    return native_rate > 0 ? kernel_ratio() < kLeastRatio : kernel_rate < kLeastRate;
  }
  /// Whether an unmodified kernel is well served.
  [[nodiscard]] bool usable() const {
    return runs && !emulates_kernel() && breakpoint && system_call;
  }
};

/// Makes a machine with one processor and some pages, and runs it: mostly within 50 milliseconds,
/// at most 300 whatever the back end does. Installs no signal handler, leaves no thread; to be
/// called by any thread.
[[nodiscard]] ProbeResult probe(const Device& device);

}  // namespace limen::kvm
