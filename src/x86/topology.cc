#include "x86/topology.h"

#include <algorithm>
#include <bit>

#include "x86/cpu_features.h"

namespace limen::x86 {
namespace {

/// Bits that hold 0 to count - 1.
unsigned width_of(unsigned count) { return static_cast<unsigned>(std::bit_width(count - 1)); }

/// Where each level's field begins in the APIC ID.
struct Shifts {
  explicit Shifts(const Topology& topology)
      : core(width_of(topology.threads)),
        die(core + width_of(topology.cores)),
        package(die + width_of(topology.dies)) {}
  unsigned core;
  unsigned die;
  unsigned package;
};

constexpr uint32_t kLevelThread = 1, kLevelCore = 2, kLevelDie = 5;

void set_level(CpuidTable& table, uint32_t leaf, uint32_t subleaf, uint32_t level, uint32_t shift,
               uint32_t processors, uint32_t id) {
  table.set(leaf, subleaf, true,
            {.eax = shift, .ebx = processors, .ecx = level << 8 | subleaf, .edx = id});
}

/// Leaves 0BH and 1FH; the latter only where there is something that the former cannot say.
void set_levels(CpuidTable& table, const Topology& topology, const Shifts& shifts, uint32_t id) {
  constexpr uint32_t kLevels = 0xB, kMoreLevels = 0x1F;
  const CpuidResult first = table.answer(0, 0);
  if (first.eax < kLevels) return;
  if (topology.processors() == 1 && table.find(kLevels, 0) == nullptr) return;
  set_level(table, kLevels, 0, kLevelThread, shifts.core, topology.threads, id);
  set_level(table, kLevels, 1, kLevelCore, shifts.package, topology.per_socket(), id);
  table.remove_from(kLevels, 2);
  if (table.is_amd()) return table.remove_from(kMoreLevels, 0);
  if (topology.dies == 1) {
    // A host's own would be taken for the guest's.
    if (table.find(kMoreLevels, 0) == nullptr) return;
    set_level(table, kMoreLevels, 0, kLevelThread, shifts.core, topology.threads, id);
    set_level(table, kMoreLevels, 1, kLevelCore, shifts.package, topology.per_socket(), id);
    return table.remove_from(kMoreLevels, 2);
  }
  CpuidResult highest = first;
  highest.eax = std::max(highest.eax, kMoreLevels);
  table.set(0, 0, false, highest);
  set_level(table, kMoreLevels, 0, kLevelThread, shifts.core, topology.threads, id);
  set_level(table, kMoreLevels, 1, kLevelCore, shifts.die, topology.cores * topology.threads, id);
  set_level(table, kMoreLevels, 2, kLevelDie, shifts.package, topology.per_socket(), id);
  table.remove_from(kMoreLevels, 3);
}

/// Leaf 4: the first two levels of caches are a core's own, those behind them the die's.
void set_caches(CpuidTable& table, const Shifts& shifts) {
  for (uint32_t i = 0;; ++i) {
    const CpuidResult* entry = table.find(4, i);
    if (entry == nullptr || (entry->eax & 0x1F) == 0) return;
    CpuidResult cache = *entry;
    const uint32_t level = cache.eax >> 5 & 7;
    const uint32_t sharing = (1u << (level < 3 ? shifts.core : shifts.die)) - 1;
    const uint32_t cores = (1u << (shifts.package - shifts.core)) - 1;
    cache.eax = (cache.eax & 0x3FFF) | std::min(sharing, 0xFFFu) << 14 | std::min(cores, 63u) << 26;
    table.set(4, i, true, cache);
  }
}

void set_amd_leaves(CpuidTable& table, const Topology& topology, const Shifts& shifts, uint32_t id,
                    unsigned index) {
  constexpr uint32_t kSizes = 0x8000'0008, kExtendedId = 0x8000'001E;
  if (topology.per_socket() > 1) set_feature(table, *find_cpu_feature("cmp-legacy"), true);
  if (const CpuidResult* found = table.find(kSizes, 0)) {
    CpuidResult sizes = *found;
    sizes.ecx = (sizes.ecx & ~0xF0FFu) | std::min(topology.per_socket() - 1, 0xFFu) |
                (shifts.package & 0xF) << 12;
    table.set(kSizes, 0, false, sizes);
  }
  const CpuidResult* range = table.find(0x8000'0000, 0);
  if (range == nullptr || range->eax < kExtendedId) return;
  if (topology.threads > 1) set_feature(table, *find_cpu_feature("topoext"), true);
  const uint32_t core = index / topology.threads % topology.cores;
  const uint32_t die = index / (topology.threads * topology.cores) % topology.dies;
  table.set(kExtendedId, 0, false,
            {.eax = id,
             .ebx = (core & 0xFF) | (topology.threads - 1) << 8,
             .ecx = die | (topology.dies - 1) << 8});
}

}  // namespace

uint32_t apic_id(const Topology& topology, unsigned index) {
  const Shifts shifts(topology);
  const unsigned thread = index % topology.threads;
  const unsigned core = index / topology.threads % topology.cores;
  const unsigned die = index / (topology.threads * topology.cores) % topology.dies;
  const unsigned package = index / topology.per_socket();
  return package << shifts.package | die << shifts.die | core << shifts.core | thread;
}

CpuidTable cpuid_of_processor(const CpuidTable& table, const Topology& topology, unsigned index) {
  const Shifts shifts(topology);
  const uint32_t id = apic_id(topology, index);
  CpuidTable own = table;
  if (const CpuidResult* found = table.find(1, 0)) {
    CpuidResult features = *found;
    features.ebx =
        (features.ebx & 0xFFFF) | std::min(topology.per_socket(), 0xFFu) << 16 | id << 24;
    own.set(1, 0, false, features);
    set_feature(own, *find_cpu_feature("ht"), topology.per_socket() > 1);
  }
  set_caches(own, shifts);
  set_levels(own, topology, shifts, id);
  if (table.is_amd()) set_amd_leaves(own, topology, shifts, id, index);
  return own;
}

}  // namespace limen::x86
