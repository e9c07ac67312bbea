#include "qemu/smp.h"

#include <fmt/format.h>

namespace limen::qemu {

Result<x86::Topology> complete_topology(const SmpRequest& request) {
  const auto given = [&](const char* key) -> uint64_t {
    const auto found = request.counts.find(key);
    return found == request.counts.end() ? 0 : found->second;
  };
  uint64_t cpus = given("cpus"), most = given("maxcpus");
  uint64_t sockets = given("sockets"), cores = given("cores"), threads = given("threads");
  const uint64_t dies = given("dies") != 0 ? given("dies") : 1;
  if (given("clusters") > 1)
    return fail("clusters={}: processors of this machine have no clusters; leave it out",
                given("clusters"));

  const auto filled = [](uint64_t count) { return count != 0 ? count : 1; };
  if (cpus == 0 && most == 0) {
    sockets = filled(sockets);
    cores = filled(cores);
    threads = filled(threads);
  } else {
    const uint64_t wanted = most != 0 ? most : cpus;
    if (cores == 0) {
      sockets = filled(sockets);
      threads = filled(threads);
      cores = wanted / (sockets * dies * threads);
    } else if (sockets == 0) {
      threads = filled(threads);
      sockets = wanted / (dies * cores * threads);
    }
    if (threads == 0) threads = wanted / (sockets * dies * cores);
  }
  const uint64_t total = sockets * dies * cores * threads;
  if (most == 0) most = cpus != 0 ? cpus : total;
  if (cpus == 0) cpus = most;
  if (total != most)
    return fail(
        "invalid topology: sockets ({}) * dies ({}) * cores ({}) * threads ({}) is {}, and there "
        "are {} processors",
        sockets, dies, cores, threads, total, most);
  if (most < cpus)
    return fail("maxcpus={} is less than the {} processors of the machine", most, cpus);
  if (most > cpus)
    return fail(
        "maxcpus={} with {} processors: none can be plugged in later yet; leave maxcpus out", most,
        cpus);
  constexpr uint64_t kMost = 288;  // as QEMU's q35
  if (cpus > kMost)
    return fail("{} processors are too many; this machine has at most {}", cpus, kMost);
  return x86::Topology{.sockets = static_cast<unsigned>(sockets),
                       .dies = static_cast<unsigned>(dies),
                       .cores = static_cast<unsigned>(cores),
                       .threads = static_cast<unsigned>(threads)};
}

}  // namespace limen::qemu
