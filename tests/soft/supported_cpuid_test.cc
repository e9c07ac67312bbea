#include "soft/supported_cpuid.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "x86/cpu_features.h"
#include "x86/tsc.h"

namespace limen::soft {
namespace {

using x86::CpuidTable;
using x86::has_feature;

/// A host with every bit of every feature leaf set.
CpuidTable host_with_everything(bool amd) {
  CpuidTable host;
  if (amd)
    host.set(0, 0, false, {0x10, 0x6874'7541, 0x444D'4163, 0x6974'6E65});
  else
    host.set(0, 0, false, {0x20, 0x756E'6547, 0x6C65'746E, 0x4965'6E69});
  host.set(1, 0, false, {0x000C'06F2, 0x0720'0800, ~0u, ~0u});
  host.set(2, 0, false, {.eax = 0x00FE'FF01});
  host.set(4, 0, true, {.eax = 0xFC1F'C121, .ebx = 0x02C0'003F, .ecx = 63});
  host.set(6, 0, false, {~0u, ~0u, ~0u, ~0u});
  host.set(7, 0, true, {2, ~0u, ~0u, ~0u});
  host.set(7, 1, true, {~0u, ~0u, ~0u, ~0u});
  host.set(0xA, 0, false, {~0u, ~0u, ~0u, ~0u});
  host.set(0xD, 0, true, {0x0006'02E7, 11008, 11008, 0});
  host.set(0xD, 1, true, {~0u, 11008, ~0u, 0});
  host.set(0xD, 2, true, {256, 576, 0, 0});
  host.set(0xD, 5, true, {64, 1088, 0, 0});
  host.set(0xD, 6, true, {512, 1152, 0, 0});
  host.set(0xD, 7, true, {1024, 1664, 0, 0});
  host.set(0xD, 9, true, {8, 2688, 0, 0});
  host.set(0xD, 18, true, {8192, 2816, 6, 0});
  host.set(0x8000'0000, 0, false, {.eax = 0x8000'0021});
  host.set(0x8000'0001, 0, false, {0, 0, ~0u, ~0u});
  host.set(0x8000'0007, 0, false, {0, 0, 0, ~0u});
  host.set(0x8000'0008, 0, false, {0x0039'392E, ~0u, ~0u, 0});
  return host;
}

TEST(SupportedCpuid, HidesWhatTheEngineDoesNotRun) {
  for (const bool amd : {false, true}) {
    const CpuidTable table = supported_cpuid(host_with_everything(amd), 2'000'000'000);
    for (const auto name : {"vme",       "vmx",
                            "svm",       "monitor",
                            "hle",       "rtm",
                            "pku",       "la57",
                            "smx",       "sgx",
                            "sgxlc",     "waitpkg",
                            "amx-tile",  "amx-int8",
                            "amx-bf16",  "amx-fp16",
                            "xfd",       "tsx-ldtrk",
                            "intel-pt",  "arch-lbr",
                            "mpx",       "dtes64",
                            "ds",        "ht",
                            "tm",        "topoext",
                            "ibs",       "skinit",
                            "fxsr-opt",  "md-clear",
                            "flush-l1d", "core-capability",
                            "pdcm",      "bus-lock-detect"})
      EXPECT_FALSE(has_feature(table, name)) << name;
    // Those without a name: CET, Key Locker, ENQCMD; UINTR, PCONFIG, IBT; LAM, HRESET; OSXSAVE,
    // OSPKE.
    EXPECT_EQ(table.answer(7, 0).ecx & (1u << 7 | 1u << 23 | 1u << 29 | 1u << 4), 0u);
    EXPECT_EQ(table.answer(7, 0).edx & (1u << 5 | 1u << 18 | 1u << 20 | 1u << 11 | 1u << 15), 0u);
    EXPECT_EQ(table.answer(7, 1).eax & (1u << 26 | 1u << 22 | 1u << 17), 0u);
    EXPECT_EQ(table.answer(7, 1).edx & (1u << 21 | 1u << 19 | 1u << 18), 0u);
    EXPECT_EQ(table.answer(1, 0).ecx & 1u << 27, 0u);
    EXPECT_EQ(table.answer(7, 2).edx, 0u);
    for (const uint32_t leaf : {5u, 0xAu, 0xFu, 0x10u, 0x12u, 0x14u}) {
      EXPECT_EQ(table.answer(leaf, 0).eax, 0u) << leaf;
      EXPECT_EQ(table.answer(leaf, 0).ebx, 0u) << leaf;
    }
    EXPECT_EQ(table.answer(6, 0).eax, 4u);  // ARAT alone
  }
}

TEST(SupportedCpuid, ProvidesWhatNeedsNoHost) {
  CpuidTable host;
  host.set(0, 0, false, {0xD, 0x756E'6547, 0x6C65'746E, 0x4965'6E69});
  host.set(1, 0, false, {.edx = 1u << 6 | 1u << 9});  // PAE, APIC
  host.set(7, 0, true, {});
  host.set(0x8000'0000, 0, false, {.eax = 0x8000'0008});
  host.set(0x8000'0001, 0, false, {.edx = 1u << 29});
  const CpuidTable table = supported_cpuid(host, 2'000'000'000);
  for (const auto name :
       {"hypervisor", "x2apic", "tsc-deadline", "pcid", "invpcid", "fsgsbase", "smep", "smap",
        "umip", "pdpe1gb", "nx", "rdtscp", "rdpid", "arch-capabilities", "tsc-adjust"})
    EXPECT_TRUE(has_feature(table, name)) << name;
  EXPECT_FALSE(has_feature(table, "avx"));
  EXPECT_FALSE(has_feature(table, "invtsc"));
  EXPECT_EQ(table.answer(0x8000'0008, 0).eax, 0x3024u);  // 48 linear, at least 36 physical bits
}

TEST(SupportedCpuid, ExtendedStateEndsWithAvx512) {
  const CpuidTable table = supported_cpuid(host_with_everything(false), 2'000'000'000);
  EXPECT_EQ(table.answer(0xD, 0).eax, 0xE7u);
  EXPECT_EQ(table.answer(0xD, 0).ecx, 2688u);
  EXPECT_EQ(table.answer(0xD, 1).eax, 0xFu);
  EXPECT_EQ(table.answer(0xD, 1).ecx, 0u);  // no supervisor state
  EXPECT_EQ(table.answer(0xD, 7).ebx, 1664u);
  EXPECT_EQ(table.answer(0xD, 9).eax, 0u);
  EXPECT_EQ(table.answer(0xD, 18).eax, 0u);
}

TEST(SupportedCpuid, ShowsOneCoreInOnePackage) {
  const CpuidTable table = supported_cpuid(host_with_everything(false), 2'000'000'000);
  EXPECT_EQ(table.answer(1, 0).ebx, 0x0001'0800u);  // APIC ID 0, one logical processor
  EXPECT_EQ(table.answer(4, 0).eax & 0xFFFF'C000, 0u);
  EXPECT_EQ(table.answer(4, 0).ebx, 0x02C0'003Fu);
  EXPECT_EQ(table.answer(4, 1).eax, 0u);
  EXPECT_EQ(table.answer(0xB, 0).ebx, 1u);
  EXPECT_EQ(table.answer(0xB, 0).ecx, 0x100u);
  EXPECT_EQ(table.answer(0xB, 1).ecx, 0x201u);
  EXPECT_EQ(table.answer(0xB, 2).ecx, 2u);
  EXPECT_EQ(table.answer(0x8000'0008, 0).ecx, 0u);
}

TEST(SupportedCpuid, SaysTheTscFrequencyAndTheSignature) {
  const CpuidTable table = supported_cpuid(host_with_everything(false), 2'500'000'000);
  const auto clock = table.answer(0x15, 0);
  EXPECT_EQ(static_cast<uint64_t>(clock.ecx) * clock.ebx / clock.eax, 2'500'000'000u);
  EXPECT_EQ(clock.ecx, x86::kCrystalHz);
  EXPECT_EQ(table.answer(0x16, 0).eax, 2500u);
  const auto hypervisor = table.answer(0x4000'0000, 0);
  EXPECT_EQ(hypervisor.eax, 0x4000'0001u);
  std::string signature(12, '\0');
  std::memcpy(signature.data(), &hypervisor.ebx, 12);
  EXPECT_EQ(signature, std::string("KVMKVMKVM\0\0\0", 12));
  EXPECT_EQ(table.answer(0x4000'0001, 0).eax, 0x0100'006Bu);
}

TEST(SupportedCpuid, TellsAnAmdGuestThatNoMitigationIsNeeded) {
  const CpuidTable table = supported_cpuid(host_with_everything(true), 2'000'000'000);
  const uint32_t security = table.answer(0x8000'0008, 0).ebx;
  EXPECT_NE(security & 1u << 26, 0u);                          // SSB_NO
  EXPECT_NE(security & 1u << 29, 0u);                          // BTC_NO
  EXPECT_NE(table.answer(0x8000'0021, 0).eax & 1u << 8, 0u);   // automatic IBRS
  EXPECT_NE(table.answer(0x8000'0021, 0).eax & 1u << 29, 0u);  // SRSO_NO
}

TEST(SupportedCpuid, OfThisHostMakesEveryModel) {
  const CpuidTable supported = supported_cpuid();
  for (const auto name : {"host", "max", "qemu64"}) {
    const auto model = x86::cpu_model(name, supported);
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_TRUE(has_feature(*model, "sse2"));
    EXPECT_TRUE(has_feature(*model, "lm"));
    EXPECT_TRUE(has_feature(*model, "hypervisor"));
  }
}

}  // namespace
}  // namespace limen::soft
