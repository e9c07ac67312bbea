// A processor's state on its way from the kernel's hypervisor to the software engine and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <random>
#include <thread>

#include "kvm/guest.h"
#include "kvm/program_bytes.h"
#include "soft/soft_accelerator.h"
#include "x86/exception.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

using vcpu::ExitReason;
using Write = Recorder::Write;

/// Which engine runs the guest for how long before the other takes over.
class KvmMove : public KvmGuest {
 protected:
  void SetUp() override {
    KvmGuest::SetUp();
    if (IsSkipped()) return;
    soft_ = soft::make_soft_accelerator();
    auto vm = soft_->create_vm({*memory_, ports_, mmio_});
    ASSERT_TRUE(vm) << vm.error().message;
    soft_vm_ = *std::move(vm);
    soft_vcpu_ = *soft_vm_->create_vcpu(0, soft_->supported_cpuid(), soft_interrupts_);
  }

  void start() {
    std::vector<std::byte> zeros(0x2000);
    put(0x20000, zeros);
    put(kCode, programs::compute());
    port_writes_.writes.clear();
  }
  /// The checksum that the program ended with; nothing: it has not.
  std::optional<uint64_t> result() {
    const std::lock_guard lock(port_writes_.mutex);
    const auto& writes = port_writes_.writes;
    if (writes.size() < 2 || writes.back().offset != 0x10) return std::nullopt;
    if (writes[writes.size() - 2].offset != 0x10) return std::nullopt;
    return writes[writes.size() - 2].value | writes.back().value << 32;
  }
  /// Runs on `vcpu` until the program is done, or about `microseconds` have gone by.
  void run_for(vcpu::Vcpu& vcpu, std::chrono::microseconds limit) {
    std::atomic<bool> is_back = false;
    std::thread kicker([&] {
      const auto end = std::chrono::steady_clock::now() + limit;
      while (!is_back && !result() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      if (!is_back) vcpu.kick();
    });
    EXPECT_EQ(vcpu.run().reason, ExitReason::kInterrupted);
    is_back = true;
    kicker.join();
  }

  std::unique_ptr<vcpu::Accelerator> soft_;
  std::unique_ptr<vcpu::Vm> soft_vm_;
  QueuedInterrupts soft_interrupts_;
  std::unique_ptr<vcpu::Vcpu> soft_vcpu_;
};

TEST_F(KvmMove, AtRandomMomentsChangesNothing) {
  using std::chrono::microseconds, std::chrono::seconds;
  start();
  soft_vcpu_->set_state(long_mode());
  run_for(*soft_vcpu_, seconds(10));
  const auto expected = result();
  ASSERT_TRUE(expected);

  start();
  vcpu_->set_state(long_mode());
  run_for(*vcpu_, seconds(10));
  ASSERT_EQ(result(), expected) << "on kvm alone";

  std::mt19937 random(1);
  unsigned moves = 0;
  for (int round = 0; round < 5; ++round) {
    start();
    auto state = long_mode();
    // What the program does not use goes along all the same.
    state.system.lstar = 0x1234'5678;
    state.system.kernel_gs_base = 0x9876;
    state.vector.zmm[3][5] = 0x77;
    bool on_kvm = round % 2 == 0;
    while (!result()) {
      auto& vcpu = on_kvm ? *vcpu_ : *soft_vcpu_;
      // At a moment of its choice, or at some access to the port: one of the engines may be so much
      // faster that it would be done before the moment comes.
      port_writes_.on_write = [&](const Write&) {
        if (random() % 4 == 0) vcpu.kick();
      };
      vcpu.set_state(state);
      run_for(vcpu, microseconds(random() % 2000));
      state = vcpu.state();
      on_kvm = !on_kvm;
      ++moves;
    }
    port_writes_.on_write = {};
    EXPECT_EQ(result(), expected) << "round " << round;
    EXPECT_EQ(state.system.lstar, 0x1234'5678u);
    EXPECT_EQ(state.system.kernel_gs_base, 0x9876u);
    EXPECT_EQ(state.vector.zmm[3][5], 0x77);
  }
  EXPECT_GT(moves, 10u);
}

/// Events that are under way when a processor is taken away, in real mode.
class KvmMoveOfEvents : public KvmMove {
 protected:
  static constexpr uint16_t kHandler = 0x2000, kStack = 0x1000;

  /// HLT at kCode, and a handler of `vector` that writes AL to port 81H.
  x86::CpuState before_handler_of(x86::Vector vector) {
    put(kCode, {0xF4});
    put(kHandler, {0xE6, 0x81, 0xF4});  // out 81h, al; hlt
    put(static_cast<uint64_t>(vector) * 4, {kHandler & 0xFF, kHandler >> 8, 0, 0});
    auto state = real_mode_at(kCode);
    state.gpr[x86::kRsp] = kStack;
    return state;
  }
  /// The handler's write is what comes next, and the handler would return to `rip`.
  void expect_handler(vcpu::Vcpu& vcpu, uint16_t rip = kCode) {
    port_writes_.writes.clear();
    port_writes_.on_write = [&](const Write&) { vcpu.kick(); };
    EXPECT_EQ(run(vcpu).reason, ExitReason::kInterrupted);
    EXPECT_THAT(port_writes_.writes, testing::ElementsAre(Write{1, 1, 0}));
    uint16_t pushed = 0;
    EXPECT_TRUE(memory_->read({kStack - 6}, std::as_writable_bytes(std::span(&pushed, 1))));
    EXPECT_EQ(pushed, rip);
  }
  std::array<vcpu::Vcpu*, 2> engines() { return {vcpu_.get(), soft_vcpu_.get()}; }
};

TEST_F(KvmMoveOfEvents, AnInterruptThatWasTakenIsDelivered) {
  constexpr x86::Vector kVector{0x20};
  auto state = before_handler_of(kVector);
  state.rflags |= x86::rflags::kInterrupt;
  state.activity.interrupt = static_cast<uint8_t>(kVector);
  for (vcpu::Vcpu* vcpu : engines()) {
    vcpu->set_state(state);
    EXPECT_EQ(vcpu->state().activity.interrupt, state.activity.interrupt);
    expect_handler(*vcpu);
    EXPECT_FALSE(vcpu->state().activity.interrupt);
  }
}

/// What a back end that emulates ring 0 does with them was not tried.
class KvmMoveOfExceptions : public KvmMoveOfEvents {
 protected:
  void SetUp() override {
    KvmMoveOfEvents::SetUp();
    if (IsSkipped()) return;
    if (std::filesystem::exists("/sys/module/kvm_pvm")) GTEST_SKIP() << "kvm_pvm is loaded";
  }
};

TEST_F(KvmMoveOfExceptions, AnNmiThatWaitsIsDelivered) {
  auto state = before_handler_of(x86::Vector::kNmi);
  state.activity.nmi_pending = true;
  for (vcpu::Vcpu* vcpu : engines()) {
    vcpu->set_state(state);
    EXPECT_TRUE(vcpu->state().activity.nmi_pending);
    EXPECT_FALSE(vcpu->state().activity.nmi_blocked);
    expect_handler(*vcpu);
    EXPECT_FALSE(vcpu->state().activity.nmi_pending);
    EXPECT_TRUE(vcpu->state().activity.nmi_blocked);
  }
}

TEST_F(KvmMoveOfExceptions, ADebugTrapThatWaitsIsDelivered) {
  auto state = before_handler_of(x86::Vector::kDebug);
  state.activity.pending_debug = x86::dr6::kSingleStep;
  for (vcpu::Vcpu* vcpu : engines()) {
    vcpu->set_state(state);
    EXPECT_EQ(vcpu->state().activity.pending_debug, x86::dr6::kSingleStep);
    expect_handler(*vcpu);
    EXPECT_EQ(vcpu->state().activity.pending_debug, 0u);
    EXPECT_TRUE(vcpu->state().system.dr[6] & x86::dr6::kSingleStep);
  }
}

TEST_F(KvmMoveOfExceptions, AStepOverAnAccessEndsInItsTrapWhereverItGoesOn) {
  for (vcpu::Vcpu* vcpu : engines()) {
    auto state = before_handler_of(x86::Vector::kDebug);
    put(kCode, {0xE6, 0x80, 0xF4});  // out 80h, al; hlt
    state.rflags |= x86::rflags::kTrap;
    port_writes_.on_write = [this](const Write&) { vcpu_->kick(); };
    vcpu_->set_state(state);
    EXPECT_EQ(run().reason, ExitReason::kInterrupted);
    state = vcpu_->state();
    EXPECT_EQ(state.rip, kCode + 2);
    EXPECT_EQ(state.activity.pending_debug, x86::dr6::kSingleStep);
    vcpu->set_state(state);
    expect_handler(*vcpu, kCode + 2);
  }
}

}  // namespace
}  // namespace limen::kvm
