// A processor's state on its way from the kernel's hypervisor to the software engine and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "kvm/guest.h"
#include "kvm/program_bytes.h"
#include "soft/soft_accelerator.h"
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
    soft_vm_ = *soft_->create_vm({*memory_, ports_, mmio_});
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

TEST_F(KvmMove, AnInterruptThatWasTakenIsDeliveredThere) {
  // At 1000H: hlt. The handler of vector 20H, at 2000H: out 80h, al; hlt.
  put(kCode, {0xF4});
  put(0x2000, {0xE6, 0x80, 0xF4});
  put(0x20 * 4, {0x00, 0x20, 0, 0});
  auto state = real_mode_at(kCode);
  state.gpr[x86::kRsp] = 0x1000;
  state.rflags |= x86::rflags::kInterrupt;
  state.activity.interrupt = 0x20;
  for (vcpu::Vcpu* vcpu : {vcpu_.get(), soft_vcpu_.get()}) {
    port_writes_.writes.clear();
    port_writes_.on_write = [vcpu](const Write&) { vcpu->kick(); };
    vcpu->set_state(state);
    EXPECT_EQ(vcpu->state().activity.interrupt, 0x20);
    EXPECT_EQ(run(*vcpu).reason, ExitReason::kInterrupted);
    EXPECT_THAT(port_writes_.writes, testing::ElementsAre(Write{0, 1, 0}));
    EXPECT_FALSE(vcpu->state().activity.interrupt);
  }
}

}  // namespace
}  // namespace limen::kvm
