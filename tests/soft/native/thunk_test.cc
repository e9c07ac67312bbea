// SSE to AVX-512 and general-register instructions through thunks.
#include <gmock/gmock.h>

#include "soft/native/bench.h"

namespace limen::soft::interpret::native {
namespace {

using x86::Vector;
using Code = Xbyak::CodeGenerator;

TEST(NativeSse, AddsRegistersAndKeepsTheUpperPartOfTheDestination) {
  Bench bench;
  bench.fill_vector(1, 0x10);
  const float a[4] = {1, 2, 3, 4}, b[4] = {10, 20, 30, 40};
  bench.set_vector(1, a, 16);
  bench.set_vector(9, b, 16);
  EXPECT_FALSE(bench.run([](Code& c) { c.addps(c.xmm1, c.xmm9); }));
  EXPECT_EQ(bench.lane<float>(1, 0), 11);
  EXPECT_EQ(bench.lane<float>(1, 3), 44);
  EXPECT_EQ(bench.lane<uint8_t>(1, 16), 0x20);
}

TEST(NativeSse, ReadsAnOperandThroughEveryAddressRegister) {
  Bench bench;
  for (unsigned reg = 0; reg < 16; ++reg) {
    bench.cpu->gpr[reg] = Bench::kData + 16 * reg;
    bench.store<uint64_t>(Bench::kData + 16 * reg, 0x1111 * (reg + 1));
    EXPECT_FALSE(
        bench.run([&](Code& c) { c.paddq(c.xmm3, c.ptr[Xbyak::Reg64(static_cast<int>(reg))]); }));
    EXPECT_EQ(bench.lane<uint64_t>(3, 0), 0x1111 * (reg + 1));
    bench.set_lane<uint64_t>(3, 0, 0);
  }
}

TEST(NativeSse, MovesToAndFromEveryGeneralRegister) {
  Bench bench;
  for (unsigned reg = 0; reg < 16; ++reg) {
    bench.cpu->gpr[reg] = 0x8877665544332211 + reg;
    EXPECT_FALSE(bench.run([&](Code& c) { c.movq(c.xmm5, Xbyak::Reg64(static_cast<int>(reg))); }));
    EXPECT_EQ(bench.lane<uint64_t>(5, 0), 0x8877665544332211 + reg);
    EXPECT_FALSE(bench.run([&](Code& c) { c.movd(Xbyak::Reg32(static_cast<int>(reg)), c.xmm5); }));
    EXPECT_EQ(bench.cpu->gpr[reg], 0x44332211 + reg);
  }
}

TEST(NativeSse, MisalignedMovapsRaisesGeneralProtection) {
  Bench bench;
  bench.cpu->gpr[x86::kRbx] = Bench::kData + 8;
  const auto raised = bench.run([](Code& c) { c.movaps(c.xmm1, c.ptr[c.rbx]); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kGeneralProtection);
  EXPECT_TRUE(raised->has_error_code);
  EXPECT_EQ(raised->error_code, 0u);
}

TEST(NativeSse, UnmaskedDivisionByZeroRaisesXmAndLeavesTheDestination) {
  Bench bench;
  const float ones[4] = {1, 1, 1, 1};
  bench.set_vector(1, ones, 16);
  bench.set_image<uint32_t>(24, 0x1F80 & ~0x200u);  // ZM clear
  const auto raised = bench.run([](Code& c) { c.divps(c.xmm1, c.xmm2); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kSimdFloatingPoint);
  EXPECT_EQ(bench.lane<float>(1, 0), 1);
  EXPECT_EQ(bench.mxcsr() & 0x3F, 4u);  // ZE
}

TEST(NativeSse, UnmaskedExceptionWithoutOsSupportRaisesInvalidOpcode) {
  Bench bench;
  bench.cpu->system.cr4 &= ~x86::cr4::kOsxmmexcpt;
  bench.set_image<uint32_t>(24, 0x1F80 & ~0x200u);
  bench.set_lane<float>(1, 0, 1);
  const auto raised = bench.run([](Code& c) { c.divss(c.xmm1, c.xmm2); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kInvalidOpcode);
}

TEST(NativeSse, KeepsTheGuestsRoundingAndStickyFlagsAwayFromTheHost) {
  Bench bench;
  const uint32_t host = __builtin_ia32_stmxcsr();
  bench.set_image<uint32_t>(24, 0x1F80 | 0x6000);  // toward zero
  bench.set_lane<float>(1, 0, 2.0f);
  bench.set_lane<float>(2, 0, 3.0f);
  EXPECT_FALSE(bench.run([](Code& c) { c.divss(c.xmm1, c.xmm2); }));
  EXPECT_EQ(bench.lane<uint32_t>(1, 0), 0x3F2AAAAAu);
  EXPECT_EQ(bench.mxcsr(), 0x1F80u | 0x6000u | 0x20u);  // PE
  EXPECT_EQ(__builtin_ia32_stmxcsr(), host);
}

TEST(NativeSse, OperandAcrossAPageIsReadAndWritten) {
  Bench bench;
  const uint64_t address = Bench::kData + 0x1000 - 5;
  for (unsigned i = 0; i < 16; ++i) bench.store<uint8_t>(address + i, static_cast<uint8_t>(i + 1));
  bench.cpu->gpr[x86::kRsi] = address;
  EXPECT_FALSE(bench.run([](Code& c) { c.movups(c.xmm1, c.ptr[c.rsi]); }));
  EXPECT_EQ(bench.lane<uint8_t>(1, 15), 16);
  bench.fill_vector(1, 0x40);
  EXPECT_FALSE(bench.run([](Code& c) { c.movups(c.ptr[c.rsi], c.xmm1); }));
  EXPECT_EQ(bench.load<uint8_t>(address + 15), 0x4F);
}

TEST(NativeSse, StoreThatReachesAnUnmappedPageWritesNothing) {
  Bench bench;
  const uint64_t address = Bench::kUnmapped - 8;
  bench.store<uint64_t>(address, 0x55);
  bench.cpu->gpr[x86::kRax] = address;
  bench.fill_vector(1, 1);
  const auto raised = bench.run([](Code& c) { c.movups(c.ptr[c.rax], c.xmm1); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kPageFault);
  EXPECT_EQ(raised->fault_address, Bench::kUnmapped);
  EXPECT_EQ(bench.load<uint64_t>(address), 0x55u);
}

TEST(NativeSse, ChecksControlRegisters) {
  Bench bench;
  auto& system = bench.cpu->system;
  const auto vector = [&] {
    const auto raised = bench.run([](Code& c) { c.pxor(c.xmm1, c.xmm2); });
    return raised ? static_cast<int>(raised->vector) : -1;
  };
  EXPECT_EQ(vector(), -1);
  system.cr0 |= x86::cr0::kTaskSwitched;
  EXPECT_EQ(vector(), 7);
  system.cr4 &= ~x86::cr4::kOsfxsr;
  EXPECT_EQ(vector(), 6);
}

TEST(NativeSse, WritesFlagsAndLeavesTheOthers) {
  Bench bench;
  bench.set_lane<double>(1, 0, 1.0);
  bench.set_lane<double>(2, 0, 2.0);
  bench.cpu->set_rflags(0x8D5 | 0x400);
  EXPECT_FALSE(bench.run([](Code& c) { c.ucomisd(c.xmm1, c.xmm2); }));
  EXPECT_EQ(bench.cpu->rflags(), 0x403u);  // CF; DF stays
}

TEST(NativeAvx, Vex128ClearsTheUpperPartOfTheDestination) {
  if (!host_has_avx2()) GTEST_SKIP();
  Bench bench;
  bench.fill_vector(1, 0x10);
  bench.fill_vector(2, 0x80);
  EXPECT_FALSE(bench.run([](Code& c) { c.vpand(c.xmm1, c.xmm2, c.xmm2); }));
  EXPECT_EQ(bench.lane<uint8_t>(1, 0), 0x80);
  for (unsigned i = 2; i < 8; ++i) EXPECT_EQ(bench.lane<uint64_t>(1, i), 0u);
}

TEST(NativeAvx, RequiresItsStateToBeEnabled) {
  if (!host_has_avx2()) GTEST_SKIP();
  Bench bench;
  const auto run = [&] { return bench.run([](Code& c) { c.vpaddd(c.ymm1, c.ymm2, c.ymm3); }); };
  EXPECT_FALSE(run());
  bench.cpu->system.xcr0 = 3;
  ASSERT_TRUE(run());
  EXPECT_EQ(run()->vector, Vector::kInvalidOpcode);
  bench.cpu->system.xcr0 = 7;
  bench.cpu->system.cr0 |= x86::cr0::kTaskSwitched;
  EXPECT_EQ(run()->vector, Vector::kDeviceNotAvailable);
  bench.cpu->system.cr4 &= ~x86::cr4::kOsxsave;
  EXPECT_EQ(run()->vector, Vector::kInvalidOpcode);
}

TEST(NativeAvx, MaskedLoadDoesNotTouchInactiveElements) {
  if (!host_has_avx2()) GTEST_SKIP();
  Bench bench;
  bench.fill_vector(1, 0xEE);
  for (unsigned i = 0; i < 8; ++i) bench.set_lane<uint32_t>(2, i, i < 2 ? 0x80000000 : 0);
  bench.cpu->gpr[x86::kRax] = Bench::kUnmapped - 8;
  bench.store<uint64_t>(Bench::kUnmapped - 8, 0x2222222211111111);
  EXPECT_FALSE(bench.run([](Code& c) { c.vpmaskmovd(c.ymm1, c.ymm2, c.ptr[c.rax]); }));
  EXPECT_EQ(bench.lane<uint64_t>(1, 0), 0x2222222211111111u);
  EXPECT_EQ(bench.lane<uint64_t>(1, 1), 0u);
  bench.set_lane<uint32_t>(2, 2, 0x80000000);
  const auto raised = bench.run([](Code& c) { c.vpmaskmovd(c.ymm1, c.ymm2, c.ptr[c.rax]); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->fault_address, Bench::kUnmapped);
}

TEST(NativeAvx512, MaskedStoreWritesActiveElementsOnly) {
  if (!host_has_avx512()) GTEST_SKIP();
  Bench bench;
  bench.fill_vector(20, 0);
  bench.cpu->vector.opmask[3] = 0b1001;
  const uint64_t address = Bench::kUnmapped - 16;
  bench.cpu->gpr[x86::kR13] = address;
  const auto store = [&] {
    return bench.run([](Code& c) { c.vmovdqu32(c.ptr[c.r13] | c.k3, c.zmm20); });
  };
  EXPECT_FALSE(store());
  EXPECT_EQ(bench.load<uint32_t>(address), 0x03020100u);
  EXPECT_EQ(bench.load<uint64_t>(address + 4), 0u);
  EXPECT_EQ(bench.load<uint32_t>(address + 12), 0x0F0E0D0Cu);
  bench.cpu->vector.opmask[3] = 0x8001;
  bench.store<uint32_t>(address, 0x77);
  const auto raised = store();
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kPageFault);
  EXPECT_EQ(bench.load<uint32_t>(address), 0x77u);
}

TEST(NativeAvx512, CompressStoreTouchesAsManyElementsAsTheMaskHas) {
  if (!host_has_avx512()) GTEST_SKIP();
  Bench bench;
  for (unsigned i = 0; i < 16; ++i) bench.set_lane<uint32_t>(1, i, 100 + i);
  bench.cpu->vector.opmask[1] = 0x8010;
  const uint64_t address = Bench::kUnmapped - 8;
  bench.cpu->gpr[x86::kRdi] = address;
  EXPECT_FALSE(bench.run({0x62, 0xF2, 0x7D, 0x49, 0x8B, 0x0F}));  // vpcompressd [rdi]{k1}, zmm1
  EXPECT_EQ(bench.load<uint32_t>(address), 104u);
  EXPECT_EQ(bench.load<uint32_t>(address + 4), 115u);
}

TEST(NativeAvx512, BroadcastWithAnEmptyMaskReadsNothing) {
  if (!host_has_avx512()) GTEST_SKIP();
  Bench bench;
  bench.fill_vector(1, 7);
  bench.cpu->gpr[x86::kRdi] = Bench::kUnmapped;
  const auto add = [&] {
    return bench.run([](Code& c) { c.vpaddd(c.zmm1 | c.k2, c.zmm1, c.ptr_b[c.rdi + 64]); });
  };
  EXPECT_FALSE(add());
  EXPECT_EQ(bench.lane<uint8_t>(1, 63), 70);
  bench.cpu->vector.opmask[2] = 0x8000;
  ASSERT_TRUE(add());
  EXPECT_EQ(add()->fault_address, Bench::kUnmapped + 64);
}

TEST(NativeAvx512, ComparesIntoAnOpmask) {
  if (!host_has_avx512()) GTEST_SKIP();
  Bench bench;
  bench.cpu->vector.opmask[5] = ~uint64_t{0};
  bench.set_lane<uint8_t>(17, 40, 9);
  EXPECT_FALSE(bench.run([](Code& c) { c.vptestmb(c.k5, c.zmm17, c.zmm17); }));
  EXPECT_EQ(bench.cpu->vector.opmask[5], uint64_t{1} << 40);
  EXPECT_FALSE(bench.run([](Code& c) { c.kmovq(c.r12, c.k5); }));
  EXPECT_EQ(bench.cpu->gpr[x86::kR12], uint64_t{1} << 40);
}

TEST(NativeGeneral, RunsBitManipulationOnAnyRegister) {
  if (!host_has_avx2()) GTEST_SKIP();
  Bench bench;
  bench.cpu->gpr[x86::kRsp] = 0b1011;
  bench.cpu->gpr[x86::kRbp] = 0b10010010;
  EXPECT_FALSE(bench.run([](Code& c) { c.pdep(c.rdi, c.rsp, c.rbp); }));
  EXPECT_EQ(bench.cpu->gpr[x86::kRdi], 0b10010u | 0u);
  bench.cpu->gpr[x86::kRdx] = uint64_t{1} << 63;
  bench.cpu->gpr[x86::kRsi] = 6;
  EXPECT_FALSE(bench.run([](Code& c) { c.mulx(c.rbx, c.r15, c.rsi); }));
  EXPECT_EQ(bench.cpu->gpr[x86::kRbx], 3u);
  EXPECT_EQ(bench.cpu->gpr[x86::kR15], 0u);
}

TEST(NativeGeneral, Crc32TakesHighByteRegisters) {
  Bench bench;
  uint32_t expected = 0x12345678;
  asm("crc32b %1, %0" : "+r"(expected) : "q"(uint8_t{0xAB}));
  for (unsigned reg = 0; reg < 4; ++reg) {
    bench.cpu->gpr[x86::kRsi] = 0x12345678;
    bench.cpu->gpr[reg] = 0xAB00;
    // crc32 esi, AH/CH/DH/BH
    EXPECT_FALSE(bench.run({0xF2, 0x0F, 0x38, 0xF0, static_cast<uint8_t>(0xF4 + reg)}));
    EXPECT_EQ(bench.cpu->gpr[x86::kRsi], expected);
  }
}

TEST(NativeGeneral, HiddenFeatureRaisesInvalidOpcode) {
  x86::CpuidTable table = host_cpuid();
  x86::CpuidResult leaf = table.answer(1, 0);
  leaf.ecx &= ~(1u << 23);
  table.set(1, 0, false, leaf);
  Bench bench(table);
  const auto raised = bench.run([](Code& c) { c.popcnt(c.eax, c.ebx); });
  ASSERT_TRUE(raised);
  EXPECT_EQ(raised->vector, Vector::kInvalidOpcode);
}

TEST(NativeGeneral, HiddenTzcntScansAsBsf) {
  x86::CpuidTable table = host_cpuid();
  x86::CpuidResult leaf = table.answer(7, 0);
  leaf.ebx &= ~(1u << 3);
  table.set(7, 0, true, leaf);
  Bench bench(table);
  bench.cpu->gpr[x86::kRbx] = 0;
  EXPECT_FALSE(bench.run([](Code& c) { c.tzcnt(c.eax, c.ebx); }));
  EXPECT_TRUE(bench.cpu->flag(x86::rflags::kZero));
  EXPECT_FALSE(bench.cpu->flag(x86::rflags::kCarry));
}

TEST(NativeGeneral, RunsIn32BitMode) {
  Bench bench;
  bench.use_32_bit_mode();
  bench.cpu->gpr[x86::kRbx] = Bench::kData;
  bench.store<uint32_t>(Bench::kData + 4, 0x01020304);
  EXPECT_FALSE(bench.run({0x0F, 0x38, 0xF0, 0x7B, 0x04}));  // movbe edi, [ebx + 4]
  EXPECT_EQ(bench.cpu->gpr[x86::kRdi], 0x04030201u);
  EXPECT_FALSE(bench.run({0x66, 0x0F, 0x6E, 0x4B, 0x04}));  // movd xmm1, [ebx + 4]
  EXPECT_EQ(bench.lane<uint32_t>(1, 0), 0x01020304u);
  if (!host_has_avx2()) return;
  EXPECT_FALSE(bench.run({0xC5, 0xF9, 0x6E, 0xE7}));  // vmovd xmm4, edi
  EXPECT_EQ(bench.lane<uint32_t>(4, 0), 0x04030201u);
}

}  // namespace
}  // namespace limen::soft::interpret::native
