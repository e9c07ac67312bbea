#include "x86/kvm_paravirtual.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "x86/cpu_features.h"

namespace limen::x86::kvm {
namespace {

CpuidTable supported() {
  CpuidTable table;
  table.set(0, 0, false, {0x16, 0x756E'6547, 0x6C65'746E, 0x4965'6E69});
  table.set(1, 0, false, {.eax = 0x000C'06F2, .ecx = 1u << 31, .edx = 1u << 9});
  table.set(kSignatureLeaf, 0, false, signature());
  table.set(kFeatureLeaf, 0, false,
            {.eax = kClockSource | kNoIoDelay | kClockSource2 | kStealTimeFeature | kPvEoiFeature |
                    kClockSourceStable});
  table.set(0x8000'0000, 0, false, {.eax = 0x8000'0008});
  return table;
}

CpuidTable model(std::string_view specification) {
  auto made = cpu_model(specification, supported());
  EXPECT_TRUE(made) << (made ? "" : made.error().message);
  return *made;
}

std::string signature_of(const CpuidTable& table) {
  const auto leaf = table.answer(kSignatureLeaf, 0);
  std::string text(12, ' ');
  std::memcpy(text.data(), &leaf.ebx, 4);
  std::memcpy(text.data() + 4, &leaf.ecx, 4);
  std::memcpy(text.data() + 8, &leaf.edx, 4);
  return text;
}

TEST(KvmClockScale, GivesNanosecondsForAnyFrequency) {
  for (const uint64_t hz : {1'000'000ull, 999'999'999ull, 1'000'000'000ull, 1'000'000'001ull,
                            2'599'998'123ull, 4'000'000'000ull, 12'345'678'901ull}) {
    const ClockScale scale = clock_scale(hz);
    EXPECT_NE(scale.multiplier >> 31, 0u) << hz;
    constexpr uint64_t kSeconds = 100'000;
    const uint64_t exact = kSeconds * 1'000'000'000;
    const uint64_t scaled = scale.nanoseconds(hz * kSeconds);
    EXPECT_LE(scaled, exact) << hz;
    EXPECT_LT(exact - scaled, exact >> 31) << hz;
  }
  EXPECT_EQ(clock_scale(2'000'000'000).nanoseconds(5000), 2500u);
}

TEST(KvmCpuid, EveryModelShowsTheInterface) {
  for (const auto name : {"host", "max", "qemu64"}) {
    const CpuidTable table = model(name);
    EXPECT_EQ(signature_of(table), std::string("KVMKVMKVM\0\0\0", 12)) << name;
    EXPECT_EQ(table.answer(kSignatureLeaf, 0).eax, kFeatureLeaf) << name;
    EXPECT_EQ(table.answer(kFeatureLeaf, 0).eax, 0x0100'006Bu) << name;
  }
}

TEST(KvmCpuid, IsHiddenByItsProperty) {
  for (const auto name : {"max,kvm=off", "qemu64,kvm=off", "host,kvm=off,+kvmclock"}) {
    const CpuidTable table = model(name);
    EXPECT_EQ(signature_of(table), "LimenLimenLi") << name;
    EXPECT_EQ(table.answer(kSignatureLeaf, 0).eax, kSignatureLeaf) << name;
    EXPECT_EQ(table.answer(kFeatureLeaf, 0).eax, 0u) << name;
  }
  EXPECT_EQ(signature_of(model("max,kvm=on")), std::string("KVMKVMKVM\0\0\0", 12));
}

TEST(KvmCpuid, FeaturesGoByTheirNames) {
  EXPECT_EQ(model("max,kvmclock=off").answer(kFeatureLeaf, 0).eax,
            kNoIoDelay | kStealTimeFeature | kPvEoiFeature);
  EXPECT_EQ(model("max,-kvm-steal-time,-kvm-pv-eoi").answer(kFeatureLeaf, 0).eax, 0x0100'000Bu);
  EXPECT_EQ(model("max,kvm-nopiodelay=off,kvmclock-stable-bit=off").answer(kFeatureLeaf, 0).eax,
            0x69u);
  EXPECT_EQ(model("max,-apic").answer(kFeatureLeaf, 0).eax & kPvEoiFeature, 0u);
}

}  // namespace
}  // namespace limen::x86::kvm
