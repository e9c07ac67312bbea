// Processors of the kernel's: what a small guest does to its ports and memory, and what it is told.
#include "kvm/vcpu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "base/host_tsc.h"
#include "kvm/guest.h"
#include "kvm/kernel.h"
#include "kvm/program_bytes.h"
#include "kvm/state/msrs.h"
#include "x86/kvm_paravirtual.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using vcpu::ExitReason;
using Write = Recorder::Write;

TEST_F(KvmGuest, RealModeWithPortsStringsAnInterruptAndADevice) {
  put(kCode, programs::real());
  port_writes_.on_write = [this](const Write& write) {
    if (write.offset != 0xC) return;
    if (write.value == 0xA5)
      interrupts_.add(uint8_t{0x20});
    else
      vcpu_->kick();
  };
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  EXPECT_THAT(
      port_writes_.writes,
      ElementsAre(Write{0, 1, 0x11}, Write{0, 2, 0x2222}, Write{0, 4, 0x3333'3333},
                  Write{0, 1, 0x5A}, Write{8, 1, 'l'}, Write{8, 1, 'i'}, Write{8, 1, 'm'},
                  Write{8, 1, 'e'}, Write{8, 1, 'n'}, Write{0, 4, 0x5A5A'5A5A}, Write{0xC, 1, 0xA5},
                  Write{0, 1, 1}, Write{0, 2, 0x5A5A}, Write{0xC, 1, 0xED}));
  EXPECT_THAT(low_device_.writes, ElementsAre(Write{0x10, 1, 0x5A}, Write{0x20, 4, 0x1234'5678}));
}

TEST_F(KvmGuest, LongModeAndRing3) {
  put(kCode, programs::long_mode());
  high_device_.on_write = [this](const Write& write) {
    if (write.offset == 8) vcpu_->kick();
  };
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  EXPECT_THAT(
      high_device_.writes,
      ElementsAre(Write{0, 8, 0x1122'3344'5566'7788}, Write{0x10, 4, 0x99AA'BBCC},
                  Write{0x14, 2, 0xDDEE}, Write{0x16, 1, 0xFF}, Write{0, 8, 0x5A5A'5A5A'5A5A'5A5A},
                  Write{0, 8, 500'500}, Write{0, 8, 0x1B}, Write{8, 8, 1}));
}

/// In real mode, with a timer that interrupts at vector 20H after 20 milliseconds.
class KvmTimer : public KvmGuest {
 protected:
  void start(std::initializer_list<uint8_t> code, std::initializer_list<uint8_t> handler) {
    const uint64_t wait = host_tsc_hz() / 50;
    put(kCode, code);
    put(0x2000, handler);
    put(0x20 * 4, {0x00, 0x20, 0, 0});
    port_writes_.on_write = [this](const Write&) { vcpu_->kick(); };
    auto state = real_mode_at(kCode);
    state.system.tsc_offset = -__builtin_ia32_rdtsc();
    state.gpr[x86::kRsp] = 0x1000;
    vcpu_->set_state(state);
    interrupts_.deadline = wait;
  }
};

TEST_F(KvmTimer, WakesAHaltedProcessor) {
  // sti; hlt; cli; out 80h, al; hlt. The handler: mov al, 77h; iret.
  start({0xFB, 0xF4, 0xFA, 0xE6, 0x80, 0xF4}, {0xB0, 0x77, 0xCF});
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(15));
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0, 1, 0x77}));
}

TEST_F(KvmTimer, InterruptsARunningProcessor) {
  // sti; l: jmp l. The handler: out 80h, al; hlt.
  start({0xFB, 0xEB, 0xFE}, {0xE6, 0x80, 0xF4});
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  EXPECT_EQ(port_writes_.writes.size(), 1u);
}

TEST_F(KvmGuest, ATaskPriorityThatADeviceAccessSetsStaysThroughAKick) {
  put(kCode, {0xE6, 0x80, 0xEB, 0xFC});  // l: out 80h, al; jmp l
  port_writes_.on_write = [this](const Write&) {
    interrupts_.set_task_priority(5);
    vcpu_->kick();
  };
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  EXPECT_EQ(interrupts_.task_priority(), 5);
}

TEST_F(KvmGuest, AfterALongStopItsClockSaysSoToTheGuestsWatchdogs) {
  constexpr uint64_t kClock = 0x3000, kFlags = kClock + offsetof(x86::kvm::SystemTime, flags);
  put(kCode, {0xE6, 0x80, 0xEB, 0xFC});  // l: out 80h, al; jmp l
  port_writes_.on_write = [this](const Write&) { vcpu_->kick(); };
  auto state = real_mode_at(kCode);
  state.system.kvm_system_time = kClock | x86::kvm::msr::kEnable;
  vcpu_->set_state(state);
  if (vcpu_->state().system.kvm_system_time != state.system.kvm_system_time)
    GTEST_SKIP() << "this kernel has no clock for guests";
  const auto said = [&] {
    run();
    auto& flags = memory_->span({kFlags}, 1)[0];
    const bool stopped =
        (std::to_integer<uint8_t>(flags) & x86::kvm::SystemTime::kGuestStopped) != 0;
    flags = {};
    return stopped;
  };
  EXPECT_FALSE(said());
  EXPECT_FALSE(said());
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_TRUE(said());
  EXPECT_FALSE(said());
}

TEST_F(KvmGuest, RegistersThatOnlyTheKernelHasAreKeptAndReset) {
  auto state = real_mode_at(kCode);
  state.other_msrs = {{x86::kvm::msr::kPollControl, 0}};  // 1 after reset
  // Not all kernels have it, or take it.
  const x86::Msr checked{x86::msr::kMcgStatus, 4};
  if (std::ranges::binary_search(device_->msrs(), checked.index) &&
      !std::filesystem::exists("/sys/module/kvm_pvm"))
    state.other_msrs.insert(state.other_msrs.begin(), checked);
  vcpu_->set_state(state);
  EXPECT_EQ(vcpu_->state().other_msrs, state.other_msrs);
  vcpu_->set_state(vcpu_->state());
  EXPECT_EQ(vcpu_->state().other_msrs, state.other_msrs);
  vcpu_->set_state(real_mode_at(kCode));
  EXPECT_THAT(vcpu_->state().other_msrs, ElementsAre());
}

TEST_F(KvmGuest, WhatMiscEnableSaysOfTheKernelStays) {
  constexpr uint64_t kNoTracing = 1u << 11 | 1u << 12;
  const auto vm = device_->create_vm();
  ASSERT_TRUE(vm);
  const UniqueFd fresh(::ioctl(vm->get(), KVM_CREATE_VCPU, 0));
  const uint64_t value = Msrs::read(fresh.get(), x86::msr::kMiscEnable).value_or(0);
  EXPECT_EQ(vcpu_->state().system.misc_enable & kNoTracing, value & kNoTracing);
}

TEST_F(KvmGuest, AStartUpThatComesDuringAReadBeginsAtItsPage) {
  struct Starting final : memory::IoHandler {
    explicit Starting(QueuedInterrupts& of) : interrupts(of) {}
    uint64_t io_read(uint64_t, unsigned) override {
      using Event = vcpu::LocalInterruptController::Event;
      interrupts.add({.event = Event::kInit});
      interrupts.add({.event = Event::kStartup, .startup_vector = 3});
      return 0x55;
    }
    void io_write(uint64_t, unsigned, uint64_t) override {}
    QueuedInterrupts& interrupts;
  } device(interrupts_);
  mmio_.claim(0xB0000, 0x1000, device, "starting");
  interrupts_.bootstrap = false;
  put(kCode, {0xB8, 0x00, 0xB0, 0x8E, 0xD8, 0xA0, 0x00, 0x00, 0xF4});  // mov ds, B000h; mov al, [0]
  put(0x3000, {0xE6, 0x80, 0xF4});                                     // out 80h, al; hlt
  put(0x4008, {0xE6, 0x81, 0xF4});  // where the end of that read would take it
  port_writes_.on_write = [this](const Write&) { vcpu_->kick(); };
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0, 1, 0}));
  mmio_.release(0xB0000, device);
}

TEST_F(KvmGuest, AKickEndsALoopAndAHaltWhenItComesEarlyToo) {
  put(kCode, {0xEB, 0xFE});  // l: jmp l
  vcpu_->kick();
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  for (int i = 0; i < 20; ++i) {
    std::thread kicker([this, i] {
      std::this_thread::sleep_for(std::chrono::microseconds(100 * i));
      vcpu_->kick();
    });
    EXPECT_EQ(run().reason, ExitReason::kInterrupted);
    kicker.join();
  }
  EXPECT_EQ(vcpu_->state().rip, kCode);
  put(kCode, {0xF4});
  // On a host that emulates it may take a while to the HLT.
  for (int i = 0; i < 100 && !vcpu_->state().activity.halted; ++i) {
    std::thread kicker([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      vcpu_->kick();
    });
    EXPECT_EQ(run().reason, ExitReason::kInterrupted);
    kicker.join();
  }
  EXPECT_TRUE(vcpu_->state().activity.halted);
}

TEST_F(KvmGuest, ATripleFaultIsAShutdown) {
  put(kCode, {0x0F, 0x0B});  // ud2
  auto state = long_mode();
  state.system.idtr = {.base = 0, .limit = 0};
  vcpu_->set_state(state);
  EXPECT_EQ(run().reason, ExitReason::kShutdown);
}

TEST_F(KvmGuest, AnotherProcessorStartsWhereItIsTold) {
  put(0x2000, {0xE6, 0x84, 0xF4});  // at 2000H: out 84h, al; hlt
  QueuedInterrupts interrupts;
  const auto second = make_vcpu(1, interrupts);
  EXPECT_TRUE(second->state().activity.wait_for_sipi);
  port_writes_.on_write = [&](const Write&) { second->kick(); };
  std::thread sender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    using Event = vcpu::LocalInterruptController::Event;
    interrupts.add({.event = Event::kInit});
    interrupts.add({.event = Event::kStartup, .startup_vector = 2});
    second->interrupt();
  });
  EXPECT_EQ(run(*second).reason, ExitReason::kInterrupted);
  sender.join();
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{4, 1, 0}));
}

TEST_F(KvmGuest, StateComesBackAsItWasSet) {
  auto state = long_mode();
  for (size_t i = 0; i < 16; ++i) state.gpr[i] = 0x1111'1111'1111'1111 * i + 3;
  state.rflags = 0x246;
  state.system.star = 0x0023'0010'0000'0000;
  state.system.lstar = 0xFFFF'8000'0000'1000;
  state.system.fmask = 0x47700;
  state.system.kernel_gs_base = 0x1234'5678;
  state.system.sysenter_eip = 0x8000'2000;  // 32 bits with AMD's processors
  state.system.pat = 0x0007'0406'0007'0406;
  state.system.dr[0] = 0x1000;
  state.system.cr2 = 0xABC000;
  state.system.mtrr_def_type = 0xC06;
  for (size_t i = 0; i < 16; ++i)
    for (size_t byte = 0; byte < 16; ++byte)
      state.vector.zmm[i][byte] = static_cast<uint8_t>(16 * i + byte);
  state.activity.halted = true;
  vcpu_->set_state(state);
  const auto back = vcpu_->state();
  EXPECT_EQ(back.gpr, state.gpr);
  EXPECT_EQ(back.rip, state.rip);
  EXPECT_EQ(back.rflags, state.rflags);
  EXPECT_EQ(back.system.cr0, state.system.cr0);
  EXPECT_EQ(back.system.cr2, state.system.cr2);
  EXPECT_EQ(back.system.cr3, state.system.cr3);
  EXPECT_EQ(back.system.cr4, state.system.cr4);
  EXPECT_EQ(back.system.efer, state.system.efer);
  EXPECT_EQ(back.system.star, state.system.star);
  EXPECT_EQ(back.system.lstar, state.system.lstar);
  EXPECT_EQ(back.system.fmask, state.system.fmask);
  EXPECT_EQ(back.system.kernel_gs_base, state.system.kernel_gs_base);
  EXPECT_EQ(back.system.sysenter_eip, state.system.sysenter_eip);
  EXPECT_EQ(back.system.dr[0], state.system.dr[0]);
  EXPECT_EQ(back.system.mtrr_def_type, state.system.mtrr_def_type);
  EXPECT_EQ(back.vector.zmm, state.vector.zmm);
  EXPECT_EQ(back.vector.fxsave, state.vector.fxsave);
  EXPECT_TRUE(back.activity.halted);
  const auto& cs = back.system.segments[x86::kCs];
  EXPECT_EQ(cs.selector, 8);
  EXPECT_TRUE(cs.is_long());
  EXPECT_EQ(cs.limit, 0xFFFF'FFFF);
  EXPECT_EQ(vcpu_->translate({0x20'1234})->value, 0x20'1234u);
  EXPECT_FALSE(vcpu_->translate({0x4000'0000}));
}

TEST_F(KvmGuest, MappingsComeAndGoWhileItRuns) {
  const auto rom = *memory_->reserve(0x1000);
  rom[0] = std::byte{0x66};
  // mov ax, 0C000h; mov ds, ax; mov al, [0]; out 80h, al; mov byte [0], 1; mov al, [0]; out 80h, al
  put(kCode, {0xB8, 0x00, 0xC0, 0x8E, 0xD8, 0xA0, 0x00, 0x00, 0xE6, 0x80, 0xC6,
              0x06, 0x00, 0x00, 0x01, 0xA0, 0x00, 0x00, 0xE6, 0x80, 0xEB, 0xEA});
  Recorder under;
  mmio_.claim(0xC0000, 0x1000, under, "under");
  port_writes_.on_write = [&](const Write&) {
    if (port_writes_.writes.size() == 1) memory_->map({0xC0000}, rom, false);
    if (port_writes_.writes.size() == 3) vcpu_->kick();
  };
  EXPECT_EQ(run().reason, ExitReason::kInterrupted);
  // The device, then the ROM, which keeps what it has; the write to it goes to the device.
  EXPECT_THAT(port_writes_.writes,
              ElementsAre(Write{0, 1, 0x5A}, Write{0, 1, 0x66}, Write{0, 1, 0x66}));
  EXPECT_THAT(under.writes, testing::Each(Write{0, 1, 1}));
  EXPECT_FALSE(under.writes.empty());
  memory_->unmap({0xC0000}, rom);
}

}  // namespace
}  // namespace limen::kvm
