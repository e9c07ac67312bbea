// What a debugger asks of a virtual processor, and what it is told. KVM's KVM_SET_GUEST_DEBUG is
// the model: an engine may have a way of its own for each, a debugger sees no difference.
#pragma once

#include <cstdint>
#include <vector>

namespace limen::vcpu {

enum class WatchKind : uint8_t { kWrite, kRead, kAccess };

/// Linear addresses [address, address + size).
struct Watchpoint {
  uint64_t address = 0;
  uint64_t size = 1;
  WatchKind kind = WatchKind::kWrite;
  bool operator==(const Watchpoint&) const = default;
};

/// All that holds for one processor; the next one replaces it.
struct DebugRequest {
  /// run() comes back after one instruction (one round of a repeated string instruction, as with
  /// TF), or with the first of a handler that was entered instead.
  bool single_step = false;
  /// No interrupt and no NMI is delivered while stepping.
  bool hold_interrupts = true;
  /// Linear addresses at which run() comes back before the instruction there. What memory holds
  /// stays as it is for everybody who looks.
  std::vector<uint64_t> breakpoints = {};           ///< As many as wanted (gdb's Z0).
  std::vector<uint64_t> hardware_breakpoints = {};  ///< What debug registers are for (Z1).
  std::vector<Watchpoint> watchpoints = {};

  bool operator==(const DebugRequest&) const = default;
};

/// Why run() came back with ExitReason::kDebug.
struct DebugStop {
  enum class Cause : uint8_t { kStep, kBreakpoint, kWatchpoint };
  Cause cause = Cause::kStep;
  uint64_t address = 0;  ///< Of the instruction (linear), or what the watchpoint watches.
  WatchKind watch = WatchKind::kWrite;
};

}  // namespace limen::vcpu
