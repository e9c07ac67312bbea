// What the status line shows, from the machine's own counters.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "machine/machine.h"

namespace limen::web {

/// Sums since the machine was made.
struct Counters {
  std::chrono::steady_clock::time_point time = {};
  uint64_t processor_nanoseconds = 0;               ///< That the host ran the vCPUs' threads.
  uint64_t disk_read = 0, disk_written = 0;         ///< Bytes.
  uint64_t network_received = 0, network_sent = 0;  ///< Bytes, as the guest's cards see them.
};
/// On the machine's loop, or before it runs.
[[nodiscard]] Counters count(machine::Machine& machine);

/// What changed between two looks, in a second.
struct Rates {
  double load = 0;  ///< 1: one vCPU ran all the time.
  double disk_read = 0, disk_written = 0, network_received = 0, network_sent = 0;
};
/// Counters that went back, as of a disk that was removed, did not move.
[[nodiscard]] Rates rates(const Counters& before, const Counters& now);

/// The messages of the control channel, JSON. On the machine's loop.

/// What stays: {"type": "machine", ...}.
[[nodiscard]] std::string machine_message(machine::Machine& machine, bool has_screen);
/// What changes: {"type": "status", ...}.
[[nodiscard]] std::string status_message(machine::Machine& machine, const Rates& rates);

}  // namespace limen::web
