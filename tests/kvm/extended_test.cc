// Registers in an XSAVE area, laid out as on processors with AVX (SDM Vol. 1 13.4).
#include "kvm/state/extended.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "x86/registers.h"

namespace limen::kvm {
namespace {

constexpr size_t kXstateBv = 512;

ExtendedLayout with_avx() {
  x86::CpuidTable host;
  host.set(0xD, 0, true, {.eax = 7, .ebx = 832, .ecx = 832, .edx = 0});
  host.set(0xD, 2, true, {.eax = 256, .ebx = 576, .ecx = 0, .edx = 0});
  return ExtendedLayout(host);
}

uint64_t present(const std::vector<uint8_t>& area) {
  uint64_t bits = 0;
  std::memcpy(&bits, &area[kXstateBv], sizeof bits);
  return bits;
}

x86::VectorState some_state() {
  x86::VectorState state;
  state.fxsave[0] = 0x7F;
  state.fxsave[1] = 2;   // FCW
  state.fxsave[40] = 9;  // ST0
  state.zmm[3][5] = 0x77;
  state.zmm[3][20] = 0x88;
  return state;
}

TEST(ExtendedLayout, NamesNoComponentThatTheGuestIsNotShown) {
  const auto layout = with_avx();
  std::vector<uint8_t> area(layout.size());
  layout.fill(some_state(), x86::xcr0::kX87 | x86::xcr0::kSse, area);
  EXPECT_EQ(present(area), 3u);
  layout.fill(some_state(), ~uint64_t{0}, area);
  EXPECT_EQ(present(area), 7u);
}

TEST(ExtendedLayout, WhatIsNotPresentIsAsAfterReset) {
  const auto layout = with_avx();
  std::vector<uint8_t> area(layout.size());
  layout.fill(some_state(), ~uint64_t{0}, area);
  x86::VectorState taken;
  layout.take(area, taken);
  EXPECT_EQ(taken.fxsave, some_state().fxsave);
  EXPECT_EQ(taken.zmm, some_state().zmm);

  std::memset(&area[kXstateBv], 0, sizeof(uint64_t));
  area[24] = 0x80;  // MXCSR: 1F80H
  area[25] = 0x1F;
  layout.take(area, taken);
  EXPECT_EQ(taken.fxsave[0] | taken.fxsave[1] << 8, 0x37F);
  EXPECT_EQ(taken.fxsave[40], 0);
  EXPECT_EQ(taken.fxsave[24] | taken.fxsave[25] << 8, 0x1F80);
  EXPECT_EQ(taken.zmm[3][5], 0);
  EXPECT_EQ(taken.zmm[3][20], 0);
}

}  // namespace
}  // namespace limen::kvm
