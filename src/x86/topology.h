// How a machine's processors are grouped: packages, dies, cores and threads, and what follows from
// it for APIC IDs and CPUID (SDM Vol. 3A 8.9; APM Vol. 3 E.5.1).
#pragma once

#include <cstdint>

#include "x86/cpuid.h"

namespace limen::x86 {

/// How many of each, in the one above; threads vary fastest.
struct Topology {
  unsigned sockets = 1;
  unsigned dies = 1;
  unsigned cores = 1;
  unsigned threads = 1;

  [[nodiscard]] unsigned processors() const { return sockets * dies * cores * threads; }
  [[nodiscard]] unsigned per_socket() const { return dies * cores * threads; }
};

/// The initial APIC ID of processor `index`: a field per level, each as wide as it must be.
[[nodiscard]] uint32_t apic_id(const Topology& topology, unsigned index);

/// `table` as processor `index` answers it.
[[nodiscard]] CpuidTable cpuid_of_processor(const CpuidTable& table, const Topology& topology,
                                            unsigned index);

}  // namespace limen::x86
