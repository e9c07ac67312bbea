// Gathers and scatters, with faults in the middle.
#include "soft/native/bench.h"

namespace limen::soft::interpret::native {
namespace {

using x86::Vector;
using Code = Xbyak::CodeGenerator;

TEST(NativeGather, LoadsActiveElementsAndClearsTheMask) {
  if (!host_has_avx2()) GTEST_SKIP();
  Bench bench;
  bench.cpu->gpr[x86::kRax] = Bench::kData;
  for (unsigned i = 0; i < 8; ++i) {
    bench.store<uint32_t>(Bench::kData + 16 * i, 100 + i);
    bench.set_lane<int32_t>(2, i, static_cast<int32_t>(4 * i));
    bench.set_lane<uint32_t>(1, i, 7);
    bench.set_lane<uint32_t>(3, i, i % 2 ? 0xFFFFFFFF : 0);
  }
  EXPECT_FALSE(bench.run([](Code& c) { c.vpgatherdd(c.ymm1, c.ptr[c.rax + c.ymm2 * 4], c.ymm3); }));
  for (unsigned i = 0; i < 8; ++i) {
    EXPECT_EQ(bench.lane<uint32_t>(1, i), i % 2 ? 100 + i : 7);
    EXPECT_EQ(bench.lane<uint32_t>(3, i), 0u);
  }
}

TEST(NativeGather, FaultKeepsWhatWasDoneBefore) {
  if (!host_has_avx512()) GTEST_SKIP();
  Bench bench;
  bench.cpu->gpr[x86::kRbx] = Bench::kUnmapped;
  for (unsigned i = 0; i < 8; ++i) {
    bench.set_lane<int64_t>(2, i, i < 5 ? -8 * static_cast<int64_t>(i + 1) : 0);
    bench.store<uint64_t>(Bench::kUnmapped - 8 * (i + 1), 50 + i);
    bench.set_lane<uint64_t>(30, i, 9);
  }
  bench.cpu->vector.opmask[4] = 0b11110110;
  const auto raised =
      bench.run([](Code& c) { c.vpgatherqq(c.zmm30 | c.k4, c.ptr[c.rbx + c.zmm2 * 1]); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kPageFault);
  EXPECT_EQ(raised->fault_address, Bench::kUnmapped);
  EXPECT_EQ(bench.cpu->vector.opmask[4], 0b11100000u);
  const uint64_t expected[] = {9, 51, 52, 9, 54, 9, 9, 9};
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(bench.lane<uint64_t>(30, i), expected[i]) << i;
}

TEST(NativeGather, IndexAboveRegisterFifteenAndScaledDisplacement) {
  if (!host_has_avx512()) GTEST_SKIP();
  Bench bench;
  bench.cpu->gpr[x86::kR15] = Bench::kData;
  bench.set_lane<int32_t>(16, 0, 2);
  bench.cpu->vector.opmask[1] = 1;
  bench.store<uint32_t>(Bench::kData + 8 + 16, 0xABCD);
  EXPECT_FALSE(
      bench.run([](Code& c) { c.vpgatherdd(c.xmm17 | c.k1, c.ptr[c.r15 + c.xmm16 * 4 + 16]); }));
  EXPECT_EQ(bench.lane<uint32_t>(17, 0), 0xABCDu);
}

TEST(NativeScatter, WritesInOrderSoThatTheHighestElementWins) {
  if (!host_has_avx512()) GTEST_SKIP();
  Bench bench;
  bench.cpu->gpr[x86::kRcx] = Bench::kData;
  for (unsigned i = 0; i < 16; ++i) {
    bench.set_lane<int32_t>(2, i, static_cast<int32_t>(i / 2));
    bench.set_lane<uint32_t>(1, i, 1000 + i);
  }
  bench.cpu->vector.opmask[2] = 0xFFFE;
  EXPECT_FALSE(bench.run([](Code& c) { c.vpscatterdd(c.ptr[c.rcx + c.zmm2 * 4] | c.k2, c.zmm1); }));
  for (unsigned i = 0; i < 8; ++i)
    EXPECT_EQ(bench.load<uint32_t>(Bench::kData + 4 * i), 1001 + 2 * i);
  EXPECT_EQ(bench.cpu->vector.opmask[2], 0u);
}

TEST(NativeGather, EqualRegistersRaiseInvalidOpcode) {
  if (!host_has_avx2()) GTEST_SKIP();
  Bench bench;
  const auto raised = bench.run({0xC4, 0xE2, 0x6D, 0x90, 0x0C, 0x90});  // ymm1, [rax+ymm2*4], ymm2
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kInvalidOpcode);
}

}  // namespace
}  // namespace limen::soft::interpret::native
