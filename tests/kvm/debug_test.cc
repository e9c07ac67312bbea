// Single steps, breakpoints and watchpoints with the kernel's hypervisor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "kvm/breakpoints.h"
#include "kvm/guest.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

using testing::HasSubstr;
using vcpu::DebugStop;
using vcpu::ExitReason;

class KvmDebug : public KvmGuest {
 protected:
  void SetUp() override {
    KvmGuest::SetUp();
    if (IsSkipped()) return;
    // inc eax; inc eax; mov [3000h], eax; jmp -11
    put(kCode, {0xFF, 0xC0, 0xFF, 0xC0, 0x89, 0x04, 0x25, 0x00, 0x30, 0x00, 0x00, 0xEB, 0xF3});
    vcpu_->set_state(long_mode());
  }
};

TEST_F(KvmDebug, StepsRunOneInstructionEach) {
  ASSERT_TRUE(vcpu_->set_debug({.single_step = true}));
  for (const uint64_t rip : {0x1002, 0x1004, 0x100B, 0x1000, 0x1002}) {
    const auto exit = run();
    ASSERT_EQ(exit.reason, ExitReason::kDebug);
    EXPECT_EQ(exit.debug.cause, DebugStop::Cause::kStep);
    EXPECT_EQ(vcpu_->state().rip, rip);
  }
  EXPECT_EQ(vcpu_->state().gpr[x86::kRax], 3u);
  ASSERT_TRUE(vcpu_->set_debug({}));
}

TEST_F(KvmDebug, ABreakpointStopsBeforeItsInstructionEachTime) {
  if (!std::filesystem::exists("/sys/module/kvm_pvm") &&
      !std::filesystem::exists("/sys/module/kvm_intel"))
    GTEST_SKIP() << "QEMU's TCG, which this may be, has no debug registers under AMD-V";
  ASSERT_TRUE(vcpu_->set_debug({.breakpoints = {0x1004}}));
  for (const uint64_t rax : {2, 4, 6}) {
    const auto exit = run();
    ASSERT_EQ(exit.reason, ExitReason::kDebug);
    EXPECT_EQ(exit.debug.cause, DebugStop::Cause::kBreakpoint);
    EXPECT_EQ(exit.debug.address, 0x1004u);
    EXPECT_EQ(vcpu_->state().gpr[x86::kRax], rax);
  }
}

TEST_F(KvmDebug, MemoryHasTheBreakpointsThatRegistersHaveNoRoomFor) {
  if (!std::filesystem::exists("/sys/module/kvm_pvm") &&
      !std::filesystem::exists("/sys/module/kvm_intel"))
    GTEST_SKIP() << "QEMU's TCG, which this may be, does not let KVM intercept INT3";
  // inc eax (eight times); jmp -18
  std::vector<uint8_t> code;
  for (int i = 0; i < 8; ++i) code.insert(code.end(), {0xFF, 0xC0});
  code.insert(code.end(), {0xEB, 0xEE});
  put(kCode, std::as_bytes(std::span(code)));
  std::vector<uint64_t> addresses(7);
  for (size_t i = 0; i < addresses.size(); ++i) addresses[i] = kCode + 2 * i;
  ASSERT_TRUE(vcpu_->set_debug({.breakpoints = addresses}));
  const auto stop_at = [&](uint64_t address) {
    const auto exit = run();
    ASSERT_EQ(exit.reason, ExitReason::kDebug) << exit.detail;
    EXPECT_EQ(exit.debug.cause, DebugStop::Cause::kBreakpoint);
    EXPECT_EQ(exit.debug.address, address);
    EXPECT_EQ(vcpu_->state().rip, address);
    std::vector<uint8_t> now(code.size());
    ASSERT_TRUE(memory_->read({kCode}, std::as_writable_bytes(std::span(now))));
    EXPECT_EQ(now, code) << "whoever looks sees the guest's own bytes";
  };
  for (int round = 0; round < 2; ++round)
    for (const uint64_t address : addresses) stop_at(address);
  EXPECT_EQ(vcpu_->state().gpr[x86::kRax], 14u);
  // One less, of those in memory.
  addresses.pop_back();
  ASSERT_TRUE(vcpu_->set_debug({.breakpoints = addresses}));
  for (const uint64_t address : addresses) stop_at(address);
  stop_at(addresses.front());
}

TEST(KvmBreakpoints, AreInMemoryWhileSomebodyWantsThemAndNobodyIsPast) {
  const memory::GuestMemory::Layout layout[] = {{.start = {0}, .size = 0x1000}};
  const auto memory = *memory::GuestMemory::create(layout, UniqueFd{}, true, 0);
  Breakpoints breakpoints(*memory);
  const GuestPhysicalAddress place{0x10};
  const auto byte = [&] { return memory->span(place, 1)[0]; };
  const std::byte own{0x90}, int3{0xCC};
  memory->span(place, 1)[0] = own;
  ASSERT_TRUE(breakpoints.insert(place));
  ASSERT_TRUE(breakpoints.insert(place));
  EXPECT_EQ(byte(), int3);
  breakpoints.lift(place);
  EXPECT_EQ(byte(), own);
  breakpoints.drop(place);
  EXPECT_EQ(byte(), int3);
  breakpoints.remove(place);
  EXPECT_EQ(byte(), int3);
  breakpoints.remove(place);
  EXPECT_EQ(byte(), own);
  EXPECT_FALSE(breakpoints.insert({0x2000}));
  // What is written over one stays.
  ASSERT_TRUE(breakpoints.insert(place));
  memory->span(place, 1)[0] = std::byte{0x55};
  breakpoints.remove(place);
  EXPECT_EQ(byte(), std::byte{0x55});
}

TEST_F(KvmDebug, WhatDebugRegistersCannotDoIsSaid) {
  const auto many = vcpu_->set_debug({.hardware_breakpoints = {1, 2, 3, 4, 5}});
  ASSERT_FALSE(many);
  EXPECT_THAT(many.error().message,
              HasSubstr("5 hardware breakpoints and watchpoints are too many"));
  const auto nowhere =
      vcpu_->set_debug({.breakpoints = {1u << 30, 2u << 30, 3u << 30, 1u << 29, 5}});
  ASSERT_TRUE(nowhere) << nowhere.error().message;
  const auto beyond =
      vcpu_->set_debug({.breakpoints = {1u << 30, 2u << 30, 3u << 30, 1u << 29, 1u << 28}});
  ASSERT_FALSE(beyond);
  EXPECT_THAT(beyond.error().message, HasSubstr("no memory is there now"));
  const auto odd = vcpu_->set_debug({.watchpoints = {{.address = 0x3001, .size = 2}}});
  ASSERT_FALSE(odd);
  EXPECT_THAT(odd.error().message, HasSubstr("0x3001"));
}

}  // namespace
}  // namespace limen::kvm
