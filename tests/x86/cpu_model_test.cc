#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/host_tsc.h"
#include "x86/cpu_features.h"
#include "x86/cpuid.h"
#include "x86/tsc.h"

namespace limen::x86 {
namespace {

using testing::HasSubstr;

/// A processor with every feature in the table and the AVX-512 state.
CpuidTable full_table() {
  CpuidTable table;
  table.set(0, 0, false, {0x16, 0x756E'6547, 0x6C65'746E, 0x4965'6E69});
  table.set(1, 0, false, {.eax = 0x000C'06F2});
  table.set(0x8000'0000, 0, false, {.eax = 0x8000'0008});
  table.set(0xD, 0, true, {.eax = 0x2E7, .ebx = 576, .ecx = 2696});
  table.set(0xD, 1, true, {.eax = 0xF, .ecx = 0x1900});
  table.set(0xD, 2, true, {.eax = 256, .ebx = 576});
  table.set(0xD, 5, true, {.eax = 64, .ebx = 1088});
  table.set(0xD, 6, true, {.eax = 512, .ebx = 1152});
  table.set(0xD, 7, true, {.eax = 1024, .ebx = 1664});
  table.set(0xD, 9, true, {.eax = 8, .ebx = 2688});
  for (const auto& feature : cpu_features())
    if (feature.name != "svm") set_feature(table, feature, true);
  return table;
}

CpuidTable model(std::string_view specification) {
  auto made = cpu_model(specification, full_table());
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return *made;
}

std::string error_of(std::string_view specification) {
  const auto made = cpu_model(specification, full_table());
  return made ? "" : made.error().message;
}

TEST(CpuFeatures, EachBitHasOneNameAndEachNameOneBit) {
  std::set<std::string_view> names;
  std::set<std::tuple<uint32_t, uint32_t, CpuidRegister, unsigned>> bits;
  for (const auto& feature : cpu_features()) {
    EXPECT_TRUE(names.insert(feature.name).second) << feature.name;
    EXPECT_TRUE(bits.insert({feature.leaf, feature.subleaf, feature.reg, feature.bit}).second)
        << feature.name;
  }
}

TEST(CpuFeatures, OtherSpellingsAreUnderstood) {
  ASSERT_NE(find_cpu_feature("sse4.1"), nullptr);
  EXPECT_EQ(find_cpu_feature("sse4_1"), find_cpu_feature("sse4.1"));
  EXPECT_EQ(find_cpu_feature("sse3"), find_cpu_feature("pni"));
  EXPECT_EQ(find_cpu_feature("lahf_lm"), find_cpu_feature("lahf-lm"));
  EXPECT_EQ(find_cpu_feature("avx3"), nullptr);
}

TEST(CpuModel, VendorIsChangedWithItsAliases) {
  const CpuidTable intel = model("qemu64,vendor=GenuineIntel");
  EXPECT_FALSE(intel.is_amd());
  EXPECT_EQ(intel.answer(0x8000'0000, 0).ebx, 0x756E'6547u);
  EXPECT_EQ(intel.answer(0x8000'0001, 0).edx & 1u, 0u) << "FPU";
  EXPECT_NE(intel.answer(0x8000'0001, 0).edx & 1u << 11, 0u) << "SYSCALL";
  const CpuidTable amd = model("max,vendor=AuthenticAMD");
  EXPECT_TRUE(amd.is_amd());
  EXPECT_NE(amd.answer(0x8000'0001, 0).edx & 1u, 0u);
  EXPECT_THAT(error_of("max,vendor=Intel"), HasSubstr("twelve letters"));
}

TEST(CpuModel, PhysicalAddressSizeIsChosenOrTheHosts) {
  CpuidTable host = full_table();
  host.set(0x8000'0008, 0, false, {.eax = 0x302E});
  const auto bits = [&](std::string_view specification) {
    return cpu_model(specification, host)->answer(0x8000'0008, 0).eax & 0xFF;
  };
  EXPECT_EQ(bits("max"), 46u);
  EXPECT_EQ(bits("max,phys-bits=36"), 36u);
  EXPECT_EQ(bits("qemu64"), 40u);
  EXPECT_EQ(bits("qemu64,host-phys-bits=on"), 46u);
  EXPECT_EQ(bits("IvyBridge,phys-bits=36,host-phys-bits=off"), 36u);
  EXPECT_THAT(error_of("max,phys-bits=35"), HasSubstr("36 to 52"));
  EXPECT_THAT(error_of("max,phys-bits=4x"), HasSubstr("36 to 52"));
}

TEST(CpuModel, NamedModelsShowWhatTheirProcessorsHad) {
  const CpuidTable ivy_bridge = model("IvyBridge");
  EXPECT_FALSE(ivy_bridge.is_amd());
  EXPECT_TRUE(has_feature(ivy_bridge, "avx"));
  EXPECT_FALSE(has_feature(ivy_bridge, "avx2"));
  EXPECT_EQ(ivy_bridge.answer(1, 0).eax, 0x0003'06A9u);
  const CpuidTable opteron = model("Opteron_G1");
  EXPECT_TRUE(opteron.is_amd());
  EXPECT_TRUE(has_feature(opteron, "syscall"));
  EXPECT_FALSE(has_feature(opteron, "cx16"));
}

TEST(CpuModel, HostAndMaxShowEverythingSupported) {
  for (const auto name : {"host", "max"}) {
    const CpuidTable table = model(name);
    // But for what is not in full_table(), and what has state that no accelerator keeps.
    const std::set<std::string_view> absent = {"svm", "mpx", "shstk", "ibt"};
    for (const auto& feature : cpu_features())
      EXPECT_EQ(has_feature(table, feature),
                !absent.contains(feature.name) && !feature.name.starts_with("amx-"))
          << feature.name;
  }
}

TEST(CpuModel, Qemu64IsTheProcessorThatQemuDefines) {
  const CpuidTable table = model("qemu64");
  EXPECT_TRUE(table.is_amd());
  EXPECT_EQ(table.answer(0, 0).eax, 0xDu);
  // Family 15, model 107, stepping 1.
  const uint32_t signature = table.answer(1, 0).eax;
  EXPECT_EQ((signature >> 8 & 0xF) + (signature >> 20 & 0xFF), 15u);
  EXPECT_EQ((signature >> 4 & 0xF) | (signature >> 12 & 0xF0), 107u);
  EXPECT_EQ(signature & 0xF, 1u);
  EXPECT_EQ(table.answer(1, 0).edx, 0x078B'FBFDu);
  EXPECT_EQ(table.answer(1, 0).ecx, 0x8000'2001u);
  EXPECT_EQ(table.answer(0x8000'0001, 0).edx, 0x2193'FBFDu);
  EXPECT_EQ(table.answer(0x8000'0001, 0).ecx, 1u);  // SVM is not supported here
  EXPECT_EQ(table.answer(7, 0).ebx, 0u);
}

TEST(CpuModel, FeaturesAreAddedAndRemovedByName) {
  const CpuidTable table = model("qemu64,+avx2,+xsave,+avx,sse4.2=on,+ssse3,+sse4_1,-pse36,nx=off");
  EXPECT_TRUE(has_feature(table, "avx2"));
  EXPECT_FALSE(has_feature(table, "pse36"));
  EXPECT_FALSE(has_feature(table, "nx"));
  EXPECT_EQ(table.answer(0xD, 0).eax, 7u);
  EXPECT_EQ(table.answer(0xD, 0).ecx, 832u);
  EXPECT_FALSE(has_feature(model("host,-hypervisor"), "hypervisor"));
}

TEST(CpuModel, WhatHasStateOfItsOwnComesWithIt) {
  const CpuidTable table = model("host");
  EXPECT_TRUE(has_feature(table, "pku"));
  EXPECT_EQ(table.answer(0xD, 0).eax, 0x2E7u);
  EXPECT_EQ(table.answer(0xD, 0).ecx, 2696u);
  EXPECT_EQ(table.answer(0xD, 1).ecx, 0u);
  EXPECT_EQ(table.answer(0xD, 9).ebx, 2688u);
  const CpuidTable without = model("host,-pku");
  EXPECT_EQ(without.answer(0xD, 0).eax, 0xE7u);
  EXPECT_EQ(without.answer(0xD, 9).ebx, 0u);
  CpuidTable no_place = full_table();
  no_place.set(0xD, 0, true, {.eax = 0xE7, .ebx = 576, .ecx = 2688});
  EXPECT_FALSE(has_feature(*cpu_model("host", no_place), "pku"));
}

TEST(CpuModel, RemovingAFeatureRemovesWhatStandsOnIt) {
  const CpuidTable without_avx = model("host,-avx,-pku");
  for (const auto name : {"avx", "avx2", "fma", "avx512f", "avx512bw", "vaes"})
    EXPECT_FALSE(has_feature(without_avx, name)) << name;
  EXPECT_TRUE(has_feature(without_avx, "sse4.2"));
  EXPECT_TRUE(has_feature(without_avx, "xsave"));
  EXPECT_EQ(without_avx.answer(0xD, 0).eax, 3u);
  EXPECT_EQ(without_avx.answer(0xD, 0).ecx, 576u);
  EXPECT_EQ(without_avx.answer(0xD, 2).eax, 0u);

  const CpuidTable without_avx512 = model("host,-avx512f,-pku");
  EXPECT_TRUE(has_feature(without_avx512, "avx2"));
  EXPECT_EQ(without_avx512.answer(0xD, 0).eax, 7u);
  EXPECT_EQ(without_avx512.answer(0xD, 0).ecx, 832u);

  const CpuidTable without_xsave = model("host,-xsave");
  EXPECT_FALSE(has_feature(without_xsave, "avx"));
  EXPECT_EQ(without_xsave.answer(0xD, 0).eax, 0u);
}

TEST(CpuModel, UnsupportedFeatureIsLeftOutOrRefused) {
  EXPECT_FALSE(has_feature(model("host,+svm"), "svm"));
  EXPECT_EQ(error_of("host,enforce,+svm"),
            "CPU feature 'svm' is not supported by this host and accelerator");
}

TEST(CpuModel, ErrorsNameTheValueAndTheChoices) {
  EXPECT_THAT(error_of("hots"), HasSubstr("unable to find CPU model 'hots'"));
  EXPECT_THAT(error_of("hots"), HasSubstr("host"));
  EXPECT_THAT(error_of("pentium"), HasSubstr("qemu64"));
  EXPECT_THAT(error_of("host,+avx51f"), HasSubstr("'avx51f'"));
  EXPECT_THAT(error_of("host,+avx51f"), HasSubstr("did you mean 'avx512f'"));
  EXPECT_THAT(error_of("host,avx=maybe"), HasSubstr("'maybe'"));
  EXPECT_THAT(error_of("host,avx51f=1"), HasSubstr("unknown CPU feature 'avx51f'; did you mean"));
  EXPECT_THAT(error_of("host,"), HasSubstr("empty"));
  EXPECT_THAT(error_of(""), HasSubstr("unable to find CPU model ''"));
}

TEST(CpuidTable, LeafBeyondTheLastAnswersAsTheLastOnIntel) {
  CpuidTable table;
  table.set(0, 0, false, {.eax = 2, .ebx = 0x756E'6547});
  table.set(2, 0, false, {.eax = 42});
  table.set(0x8000'0000, 0, false, {.eax = 0x8000'0001});
  EXPECT_EQ(table.answer(3, 0).eax, 42u);
  EXPECT_EQ(table.answer(0x8000'0002, 0).eax, 42u);
  EXPECT_EQ(table.answer(1, 0).eax, 0u);
  EXPECT_EQ(table.answer(0x4000'0000, 0).eax, 0u);
  table.set(0, 0, false, {.eax = 2, .ebx = 0x6874'7541});
  EXPECT_EQ(table.answer(3, 0).eax, 0u);
}

TEST(CpuidTable, UnknownSubleafAnswersZerosButTopologyEchoesTheLevel) {
  CpuidTable table;
  table.set(0, 0, false, {.eax = 0xD, .ebx = 0x756E'6547});
  table.set(7, 0, true, {.ebx = 5});
  table.set(0xB, 0, true, {.ebx = 1, .ecx = 0x100, .edx = 3});
  EXPECT_EQ(table.answer(7, 9).ebx, 0u);
  EXPECT_EQ(table.answer(0xB, 2).ecx, 2u);
  EXPECT_EQ(table.answer(0xB, 2).edx, 3u);
}

TEST(TscRatio, ComesCloseAndFitsThirtyTwoBits) {
  for (const uint64_t hz : {1'996'249'000ull, 2'000'000'000ull, 2'599'998'765ull, 3'792'877'123ull,
                            4'491'540'000ull, 999'999'937ull, 50'000'000ull}) {
    const TscRatio ratio = tsc_ratio(hz, kCrystalHz);
    ASSERT_NE(ratio.denominator, 0u);
    ASSERT_NE(ratio.numerator, 0u);
    const uint64_t crystal_khz = kCrystalHz / 1000;
    ASSERT_LE(crystal_khz * ratio.numerator, 0xFFFF'FFFFu);
    const double computed =
        static_cast<double>(crystal_khz * ratio.numerator / ratio.denominator) * 1000;
    EXPECT_NEAR(computed / static_cast<double>(hz), 1, 2e-6) << hz;
  }
}

TEST(HostTsc, IsPlausibleAndAlwaysTheSame) {
  EXPECT_GT(host_tsc_hz(), 100'000'000u);
  EXPECT_LT(host_tsc_hz(), 10'000'000'000u);
  EXPECT_EQ(host_tsc_hz(), host_tsc_hz());
}

}  // namespace
}  // namespace limen::x86
