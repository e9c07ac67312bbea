// Single steps, breakpoints and watchpoints with the kernel's hypervisor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

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

TEST_F(KvmDebug, WhatDebugRegistersCannotDoIsSaid) {
  const auto many = vcpu_->set_debug({.breakpoints = {1, 2, 3, 4, 5}});
  ASSERT_FALSE(many);
  EXPECT_THAT(many.error().message, HasSubstr("5 breakpoints and watchpoints are too many"));
  const auto odd = vcpu_->set_debug({.watchpoints = {{.address = 0x3001, .size = 2}}});
  ASSERT_FALSE(odd);
  EXPECT_THAT(odd.error().message, HasSubstr("0x3001"));
}

}  // namespace
}  // namespace limen::kvm
