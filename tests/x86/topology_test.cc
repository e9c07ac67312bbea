#include "x86/topology.h"

#include <gtest/gtest.h>

#include "x86/cpu_features.h"

namespace limen::x86 {
namespace {

constexpr uint32_t kAuth = 0x6874'7541, kGenu = 0x756E'6547;

CpuidTable processor(uint32_t vendor) {
  CpuidTable table;
  table.set(0, 0, false, {.eax = 0x16, .ebx = vendor});
  table.set(1, 0, false, {.ebx = 0x0001'0800});
  table.set(4, 0, true, {.eax = 1 | 1u << 5, .ebx = 7});
  table.set(4, 1, true, {.eax = 3 | 3u << 5, .ebx = 9});
  table.set(0xB, 0, true, {.ebx = 1, .ecx = 0x100});
  table.set(0xB, 1, true, {.ebx = 1, .ecx = 0x201});
  table.set(0x8000'0000, 0, false, {.eax = 0x8000'0021});
  table.set(0x8000'0001, 0, false, {});
  table.set(0x8000'0008, 0, false, {.eax = 0x3030});
  return table;
}

TEST(Topology, ApicIdHasAFieldPerLevel) {
  const Topology topology{.sockets = 2, .dies = 1, .cores = 3, .threads = 2};
  EXPECT_EQ(apic_id(topology, 0), 0u);
  EXPECT_EQ(apic_id(topology, 1), 1u);
  EXPECT_EQ(apic_id(topology, 2), 2u);
  EXPECT_EQ(apic_id(topology, 5), 5u);
  EXPECT_EQ(apic_id(topology, 6), 8u);  // three cores take two bits
  EXPECT_EQ(apic_id(topology, 11), 13u);
  EXPECT_EQ(apic_id({.cores = 5}, 4), 4u);
  EXPECT_EQ(apic_id({.sockets = 1, .dies = 2, .cores = 2, .threads = 1}, 3), 3u);
}

TEST(Topology, OneProcessorIsAlone) {
  const CpuidTable table = cpuid_of_processor(processor(kGenu), {}, 0);
  EXPECT_EQ(table.answer(1, 0).ebx, 0x0001'0800u);
  EXPECT_FALSE(has_feature(table, "ht"));
  EXPECT_EQ(table.answer(0xB, 0).edx, 0u);
  EXPECT_EQ(table.answer(4, 1).eax, 3u | 3u << 5);
}

TEST(Topology, LevelsAndCachesOfIntel) {
  const CpuidTable table =
      cpuid_of_processor(processor(kGenu), {.sockets = 2, .cores = 4, .threads = 2}, 13);
  EXPECT_EQ(table.answer(1, 0).ebx, 13u << 24 | 8u << 16 | 0x800u);
  EXPECT_TRUE(has_feature(table, "ht"));
  EXPECT_EQ(table.answer(0xB, 0).eax, 1u);
  EXPECT_EQ(table.answer(0xB, 0).ebx, 2u);
  EXPECT_EQ(table.answer(0xB, 1).eax, 3u);
  EXPECT_EQ(table.answer(0xB, 1).ebx, 8u);
  EXPECT_EQ(table.answer(0xB, 1).edx, 13u);
  EXPECT_EQ(table.answer(4, 0).eax >> 14 & 0xFFF, 1u);  // L1: the core's threads
  EXPECT_EQ(table.answer(4, 1).eax >> 14 & 0xFFF, 7u);  // L3: the package
  EXPECT_EQ(table.answer(4, 1).eax >> 26, 3u);
  EXPECT_EQ(table.answer(0, 0).eax, 0x16u);
}

TEST(Topology, DiesNeedLeaf1F) {
  const CpuidTable table =
      cpuid_of_processor(processor(kGenu), {.dies = 2, .cores = 2, .threads = 1}, 3);
  EXPECT_EQ(table.answer(0, 0).eax, 0x1Fu);
  EXPECT_EQ(table.answer(0x1F, 1).eax, 1u);
  EXPECT_EQ(table.answer(0x1F, 1).ebx, 2u);
  EXPECT_EQ(table.answer(0x1F, 2).eax, 2u);
  EXPECT_EQ(table.answer(0x1F, 2).ebx, 4u);
  EXPECT_EQ(table.answer(0x1F, 2).ecx, 0x502u);
  EXPECT_EQ(table.answer(0x1F, 2).edx, 3u);
}

TEST(Topology, AHostsOwnLevelsAreNotTheGuests) {
  for (const uint32_t vendor : {kGenu, kAuth}) {
    CpuidTable host = processor(vendor);
    host.set(0, 0, false, {.eax = 0x1F, .ebx = vendor});
    host.set(0xB, 2, true, {.edx = 77});
    for (uint32_t subleaf = 0; subleaf < 4; ++subleaf)
      host.set(0x1F, subleaf, true, {.eax = 7, .ebx = 64, .ecx = 0x500 | subleaf, .edx = 77});
    const Topology topology{.sockets = 1, .dies = 1, .cores = 2, .threads = 2};
    const CpuidTable table = cpuid_of_processor(host, topology, 3);
    for (const uint32_t leaf : {0xBu, 0x1Fu})
      for (uint32_t subleaf = 0; subleaf < 4; ++subleaf)
        EXPECT_NE(table.answer(leaf, subleaf).edx, 77u) << leaf << " " << subleaf;
    EXPECT_EQ(table.answer(0xB, 1).ebx, 4u);
    EXPECT_EQ(table.answer(0x1F, 1).ebx, vendor == kGenu ? 4u : 0u);
    const CpuidTable dies = cpuid_of_processor(host, {.dies = 2, .cores = 2}, 3);
    EXPECT_NE(dies.answer(0x1F, 3).edx, 77u);
  }
}

TEST(Topology, AmdCountsInItsOwnLeaves) {
  const CpuidTable table =
      cpuid_of_processor(processor(kAuth), {.sockets = 1, .cores = 3, .threads = 2}, 5);
  EXPECT_EQ(table.answer(0x8000'0008, 0).ecx, 3u << 12 | 5u);
  EXPECT_EQ(table.answer(0x8000'001E, 0).eax, 5u);
  EXPECT_EQ(table.answer(0x8000'001E, 0).ebx, 1u << 8 | 2u);
  EXPECT_TRUE(has_feature(table, "cmp-legacy"));
  EXPECT_TRUE(has_feature(table, "topoext"));
}

}  // namespace
}  // namespace limen::x86
