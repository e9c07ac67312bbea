// The state of a guest that runs a guest of its own (AMD-V; APM Vol. 2 chapter 15).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "kvm/guest.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

using vcpu::ExitReason;
using Write = Recorder::Write;

constexpr uint64_t kVmcb = 0x5000, kInner = 0x2000, kHostSave = 0x6000;

class KvmNested : public KvmGuest {
 protected:
  void SetUp() override {
    KvmGuest::SetUp();
    if (IsSkipped()) return;
    constexpr uint32_t kFeatures = 0x8000'0001, kSvm = 1u << 2;
    if ((accelerator_->supported_cpuid().answer(kFeatures, 0).ecx & kSvm) == 0)
      GTEST_SKIP() << "guests of this /dev/kvm have no AMD-V";
    if (device_->extension(KVM_CAP_NESTED_STATE) == 0) GTEST_SKIP() << "no KVM_CAP_NESTED_STATE";
    put_vmcb(long_mode());
    // mov ecx, 0C0000080h; rdmsr; bts eax, 12; wrmsr (EFER.SVME); mov ecx, 0C0010117h;
    // mov eax, 6000h; xor edx, edx; wrmsr (VM_HSAVE_PA); xor ebx, ebx; mov eax, 5000h; vmrun;
    // mov eax, ebx; out 90h, eax; mov eax, [5070h] (why it came back); out 90h, eax; jmp -2
    put(kCode, {0xB9, 0x80, 0x00, 0x00, 0xC0, 0x0F, 0x32, 0x0F, 0xBA, 0xE8, 0x0C, 0x0F, 0x30,
                0xB9, 0x17, 0x01, 0x01, 0xC0, 0xB8, 0x00, 0x60, 0x00, 0x00, 0x31, 0xD2, 0x0F,
                0x30, 0x31, 0xDB, 0xB8, 0x00, 0x50, 0x00, 0x00, 0x0F, 0x01, 0xD8, 0x89, 0xD8,
                0xE7, 0x90, 0x8B, 0x04, 0x25, 0x70, 0x50, 0x00, 0x00, 0xE7, 0x90, 0xEB, 0xFE});
    // The inner guest: inc ebx; mov eax, ebx; out 80h, al; cmp ebx, 5; jb -11; vmmcall
    put(kInner,
        {0xFF, 0xC3, 0x89, 0xD8, 0xE6, 0x80, 0x83, 0xFB, 0x05, 0x72, 0xF5, 0x0F, 0x01, 0xD9});
  }

  /// A guest in 64-bit mode with the pages of its hypervisor, of which VMRUN and VMMCALL alone are
  /// intercepted (APM Vol. 2 appendix B).
  void put_vmcb(const x86::CpuState& like) {
    std::vector<std::byte> vmcb(0x1000);
    const auto field = [&vmcb](size_t offset, auto value) {
      std::memcpy(&vmcb[offset], &value, sizeof value);
    };
    const auto segment = [&](size_t offset, uint16_t selector, uint16_t attributes) {
      field(offset, selector);
      field(offset + 2, attributes);
      field(offset + 4, uint32_t{0xFFFF'FFFF});
    };
    field(0x010, uint32_t{3});
    field(0x058, uint32_t{1});  // its address space
    for (const size_t offset : {0x400, 0x420, 0x430, 0x440, 0x450}) segment(offset, 0x10, 0xC93);
    segment(0x410, 8, 0xA9B);
    segment(0x490, 0x18, 0x08B);
    constexpr uint64_t kSvme = 1u << 12;
    field(0x4D0, like.system.efer | kSvme);
    field(0x548, like.system.cr4);
    field(0x550, like.system.cr3);
    field(0x558, like.system.cr0);
    field(0x560, uint64_t{0x400});
    field(0x568, uint64_t{0xFFFF'0FF0});
    field(0x570, x86::rflags::kAlwaysSet);
    field(0x578, kInner);
    field(0x5D8, uint64_t{0x3000});
    field(0x668, like.system.pat);
    put(kVmcb, vmcb);
  }
};

TEST_F(KvmNested, AStateTakenInTheInnerGuestGoesOnElsewhere) {
  EXPECT_TRUE(vcpu_->state().nested.empty());
  vcpu_->set_state(long_mode());
  port_writes_.on_write = [this](const Write& write) {
    if (write.offset == 0 && write.value == 3) vcpu_->kick();
  };
  const auto exit = run();
  ASSERT_EQ(exit.reason, ExitReason::kInterrupted) << exit.detail;
  const auto inside = vcpu_->state();
  EXPECT_EQ(inside.rip, kInner + 6) << "after the third OUT";
  ASSERT_FALSE(inside.nested.empty());
  EXPECT_EQ(inside.system.vm_hsave_pa, kHostSave);

  // The first processor forgets it all.
  vcpu_->set_state(long_mode());
  EXPECT_TRUE(vcpu_->state().nested.empty());
  auto other_vm = *accelerator_->create_vm({*memory_, ports_, mmio_});
  QueuedInterrupts interrupts;
  auto cpuid = accelerator_->supported_cpuid();
  auto other = *other_vm->create_vcpu(0, cpuid, interrupts);
  other->set_state(inside);
  port_writes_.on_write = [&other, count = 0](const Write& write) mutable {
    if (write.offset == 0x10 && ++count == 2) other->kick();
  };
  const auto end = run(*other);
  ASSERT_EQ(end.reason, ExitReason::kInterrupted) << end.detail;
  constexpr uint64_t kVmmcall = 0x81;
  EXPECT_THAT(port_writes_.writes,
              testing::ElementsAre(Write{0, 1, 1}, Write{0, 1, 2}, Write{0, 1, 3}, Write{0, 1, 4},
                                   Write{0, 1, 5}, Write{0x10, 4, 5}, Write{0x10, 4, kVmmcall}));
}

}  // namespace
}  // namespace limen::kvm
