// -smp: what was left out of a topology, filled in as QEMU does.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/result.h"
#include "x86/topology.h"

namespace limen::qemu {

/// The counts that were given, by key: cpus, maxcpus, sockets, dies, clusters, cores, threads. All
/// are positive and at most 2^12.
struct SmpRequest {
  std::map<std::string, uint64_t> counts = {};
};

/// Fills in what was not given: processors become cores first, as for QEMU's machines since 6.2.
/// Fails where the product is not the number of processors, and for processors that would have to
/// be plugged in later.
Result<x86::Topology> complete_topology(const SmpRequest& request);

}  // namespace limen::qemu
