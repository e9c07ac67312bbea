// FXSAVE, XSAVE and their kin, compared with what the host writes for the same state.
#include <algorithm>

#include "soft/interpret/native/host.h"
#include "soft/interpret/native/image.h"
#include "soft/native/bench.h"
#include "x86/cpu_features.h"

namespace limen::soft::interpret::native {
namespace {

using x86::Vector;
using Code = Xbyak::CodeGenerator;

// Forms with [rdi] as operand; REX.W in front gives the 64-bit ones.
const std::vector<uint8_t> kFxsave64 = {0x48, 0x0F, 0xAE, 0x07};
const std::vector<uint8_t> kFxrstor64 = {0x48, 0x0F, 0xAE, 0x0F};
const std::vector<uint8_t> kXsave64 = {0x48, 0x0F, 0xAE, 0x27};
const std::vector<uint8_t> kXrstor64 = {0x48, 0x0F, 0xAE, 0x2F};
const std::vector<uint8_t> kXsavec64 = {0x48, 0x0F, 0xC7, 0x27};
const std::vector<uint8_t> kXsaves64 = {0x48, 0x0F, 0xC7, 0x2F};
const std::vector<uint8_t> kXrstors64 = {0x48, 0x0F, 0xC7, 0x1F};
const std::vector<uint8_t> kXsaveopt64 = {0x48, 0x0F, 0xAE, 0x37};

/// Enables what both the host and CPUID have.
uint64_t enabled_components() { return host_has_avx512() ? 0xE7 : 7; }

class NativeStateArea : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!host_has_avx2()) GTEST_SKIP();
    bench.cpu->system.xcr0 = enabled_components();
    bench.cpu->gpr[x86::kRdi] = Bench::kData;
    request(~uint64_t{0});
    for (unsigned i = 0; i < 32; ++i) bench.fill_vector(i, static_cast<uint8_t>(3 * i + 1));
    if (!host_has_avx512())
      for (auto& reg : bench.cpu->vector.zmm) std::memset(reg.data() + 32, 0, 32);
    for (unsigned i = 0; i < 8; ++i) bench.cpu->vector.opmask[i] = 0x1010101010101010u * (i + 1);
    EXPECT_FALSE(bench.run([](Code& c) { c.fldpi(); }));
  }

  void request(uint64_t mask) {
    bench.cpu->gpr[x86::kRax] = static_cast<uint32_t>(mask);
    bench.cpu->gpr[x86::kRdx] = mask >> 32;
  }
  void clear_vectors() {
    for (auto& reg : bench.cpu->vector.zmm) reg.fill(0);
    bench.cpu->vector.opmask.fill(0);
  }

  /// What comes back of x87 state and MXCSR: with no exception pending, some processors store no
  /// pointers, and so does the guest's then.
  static auto as_saved(decltype(x86::VectorState::fxsave) image) {
    if (!host_features().saves_x87_pointers)
      std::fill(image.begin() + kOpcodeAt, image.begin() + kMxcsrAt, uint8_t{0});
    return image;
  }

  /// The engine does XSAVES by itself, and some hosts do not show it.
  static x86::CpuidTable with_xsaves() {
    auto table = host_cpuid();
    x86::set_feature(table, *x86::find_cpu_feature("xsaves"), true);
    return table;
  }

  Bench bench{with_xsaves()};
};

TEST_F(NativeStateArea, FxsaveRoundTrips) {
  bench.set_image<uint32_t>(24, 0x1FA0);
  const auto before = bench.cpu->vector;
  bench.store<uint64_t>(Bench::kData + 504, 0x1234);
  EXPECT_FALSE(bench.run(kFxsave64));
  EXPECT_EQ(bench.load<uint32_t>(Bench::kData + 24), 0x1FA0u);
  EXPECT_EQ(bench.load<uint64_t>(Bench::kData + 504), 0x1234u);  // available to software
  EXPECT_FALSE(bench.run([](Code& c) { c.fldz(); }));
  bench.set_image<uint32_t>(24, 0x1F80);
  clear_vectors();
  EXPECT_FALSE(bench.run(kFxrstor64));
  EXPECT_EQ(bench.cpu->vector.fxsave, as_saved(before.fxsave));
  for (unsigned i = 0; i < 16; ++i)
    EXPECT_EQ(std::memcmp(bench.cpu->vector.zmm[i].data(), before.zmm[i].data(), 16), 0);
  EXPECT_EQ(bench.lane<uint64_t>(1, 2), 0u);
}

TEST_F(NativeStateArea, FxrstorRefusesReservedBitsOfMxcsr) {
  EXPECT_FALSE(bench.run(kFxsave64));
  bench.store<uint32_t>(Bench::kData + 24, 0x80001F80);
  const auto raised = bench.run(kFxrstor64);
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kGeneralProtection);
}

TEST_F(NativeStateArea, HostLoadsWhatXsaveWrote) {
  EXPECT_FALSE(bench.run(kXsave64));
  EXPECT_EQ(bench.load<uint64_t>(Bench::kData + 512), enabled_components());
  // Load the guest's area on the host and save it again.
  alignas(64) static uint8_t area[4096];
  std::memcpy(area, bench.at(Bench::kData), sizeof area);
  alignas(64) static uint8_t own[4096], again[4096];
  const auto low = static_cast<uint32_t>(enabled_components());
  asm volatile("xsave64 %0\n xrstor64 %2\n xsave64 %1\n xrstor64 %0"
               : "+m"(own), "+m"(again)
               : "m"(area), "a"(low), "d"(0)
               : "memory");
  EXPECT_EQ(std::memcmp(again, area, 416), 0);
  EXPECT_EQ(std::memcmp(again + 512, area + 512, sizeof area - 512), 0);
}

TEST_F(NativeStateArea, XsaveRoundTripsInEveryForm) {
  const auto before = bench.cpu->vector;
  for (const auto& save : {kXsave64, kXsaveopt64, kXsavec64, kXsaves64}) {
    std::memset(bench.at(Bench::kData), 0, 4096);
    bench.cpu->vector = before;
    EXPECT_FALSE(bench.run(save));
    clear_vectors();
    EXPECT_FALSE(bench.run([](Code& c) { c.fldz(); }));
    EXPECT_FALSE(bench.run(save == kXsaves64 ? kXrstors64 : kXrstor64));
    EXPECT_EQ(bench.cpu->vector.fxsave, as_saved(before.fxsave));
    EXPECT_EQ(bench.cpu->vector.zmm, before.zmm);
    if (host_has_avx512()) {
      EXPECT_EQ(bench.cpu->vector.opmask, before.opmask);
    }
  }
}

TEST_F(NativeStateArea, LeavesOutWhatIsInItsInitialState) {
  for (auto& reg : bench.cpu->vector.zmm) std::memset(reg.data() + 16, 0, 48);
  for (unsigned i = 16; i < 32; ++i) bench.cpu->vector.zmm[i].fill(0);
  bench.cpu->vector.opmask.fill(0);
  bench.store<uint64_t>(Bench::kData + 576, 0x77);
  EXPECT_FALSE(bench.run(kXsavec64));
  EXPECT_EQ(bench.load<uint64_t>(Bench::kData + 512), 3u);
  EXPECT_EQ(bench.load<uint64_t>(Bench::kData + 520), enabled_components() | (uint64_t{1} << 63));
  EXPECT_EQ(bench.load<uint64_t>(Bench::kData + 576), 0x77u);
}

TEST_F(NativeStateArea, RestoresInitialStateForAbsentComponents) {
  bench.store<uint64_t>(Bench::kData + 512, 0);
  bench.store<uint32_t>(Bench::kData + 24, 0x1F80);
  EXPECT_FALSE(bench.run(kXrstor64));
  EXPECT_EQ(bench.lane<uint64_t>(3, 0), 0u);
  EXPECT_EQ(bench.lane<uint64_t>(3, 3), 0u);
  EXPECT_EQ(bench.image<uint16_t>(0), 0x37F);
  EXPECT_EQ(bench.image<uint8_t>(4), 0);
}

TEST_F(NativeStateArea, RequestedComponentsOnly) {
  request(4);
  bench.store<uint64_t>(Bench::kData + 160, 0x99);
  EXPECT_FALSE(bench.run(kXsave64));
  EXPECT_EQ(bench.load<uint64_t>(Bench::kData + 160), 0x99u);
  EXPECT_EQ(bench.load<uint64_t>(Bench::kData + 512), 4u);
  EXPECT_EQ(bench.load<uint8_t>(Bench::kData + 576), 1 + 16);
}

TEST_F(NativeStateArea, RefusesBadHeadersAndMisalignment) {
  const auto vector = [&](const std::vector<uint8_t>& bytes) {
    const auto raised = bench.run(bytes);
    return raised ? static_cast<int>(raised->vector) : -1;
  };
  std::memset(bench.at(Bench::kData), 0, 4096);
  bench.store<uint32_t>(Bench::kData + 24, 0x1F80);
  EXPECT_EQ(vector(kXrstor64), -1);
  bench.store<uint64_t>(Bench::kData + 512, 0x100);  // not in XCR0
  EXPECT_EQ(vector(kXrstor64), 13);
  bench.store<uint64_t>(Bench::kData + 512, 0);
  bench.store<uint64_t>(Bench::kData + 520, 1);  // XCOMP_BV without bit 63
  EXPECT_EQ(vector(kXrstor64), 13);
  bench.store<uint64_t>(Bench::kData + 520, 0);
  EXPECT_EQ(vector(kXrstors64), 13);  // only the compacted form
  bench.store<uint64_t>(Bench::kData + 520, uint64_t{1} << 63 | 3);
  EXPECT_EQ(vector(kXrstors64), -1);
  bench.store<uint64_t>(Bench::kData + 512, 4);  // not in XCOMP_BV
  EXPECT_EQ(vector(kXrstor64), 13);
  bench.cpu->gpr[x86::kRdi] += 8;
  EXPECT_EQ(vector(kXsave64), 13);
  EXPECT_EQ(vector(kFxsave64), 13);
  bench.cpu->system.cr4 &= ~x86::cr4::kOsxsave;
  EXPECT_EQ(vector(kXsave64), 6);
}

TEST_F(NativeStateArea, AreaThatReachesAnUnmappedPageIsNotWritten) {
  bench.cpu->gpr[x86::kRdi] = Bench::kUnmapped - 1024;
  const auto raised = bench.run(kXsave64);
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kPageFault);
  EXPECT_EQ(bench.load<uint64_t>(Bench::kUnmapped - 1024 + 160), 0u);
}

TEST_F(NativeStateArea, MxcsrLoadsAndStores) {
  bench.store<uint32_t>(Bench::kData, 0x1F00);
  EXPECT_FALSE(bench.run({0x0F, 0xAE, 0x17}));  // ldmxcsr [rdi]
  EXPECT_EQ(bench.mxcsr(), 0x1F00u);
  EXPECT_FALSE(bench.run({0x0F, 0xAE, 0x5F, 0x08}));  // stmxcsr [rdi + 8]
  EXPECT_EQ(bench.load<uint32_t>(Bench::kData + 8), 0x1F00u);
  bench.store<uint32_t>(Bench::kData, 0x10000);
  const auto raised = bench.run({0x0F, 0xAE, 0x17});
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kGeneralProtection);
}

}  // namespace
}  // namespace limen::soft::interpret::native
