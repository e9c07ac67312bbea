// The kernel's interrupt controllers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <thread>
#include <utility>

#include "kvm/guest.h"

namespace limen::kvm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using vcpu::ExitReason;
using Write = Recorder::Write;

constexpr uint64_t kToFirst = 0xFEE0'0000;

/// Real mode: sti, then HLT in a loop. The handler of vector 41H and of 20H + 5 writes AL to port
/// 80H.
class KvmChips : public KvmGuest {
 protected:
  explicit KvmChips(IrqChip irqchip = IrqChip::kOn) : KvmGuest({.irqchip = irqchip}) {}
  void SetUp() override {
    KvmGuest::SetUp();
    if (IsSkipped()) return;
    put(kCode, {0xFB, 0xF4, 0xEB, 0xFD});
    // mov al, 41h; out 80h, al; iret
    put(0x2000, {0xB0, 0x41, 0xE6, 0x80, 0xCF});
    for (const uint64_t vector : {0x41, 0x25}) put(vector * 4, {0x00, 0x20, 0, 0});
    auto state = real_mode_at(kCode);
    state.gpr[4] = 0x1000;
    vcpu_->set_state(state);
    port_writes_.on_write = [this](const Write&) { vcpu_->kick(); };
    chips_ = vm_->interrupt_chips();
    ASSERT_NE(chips_, nullptr);
  }
  /// What a BIOS does: ICW1 to ICW4, vectors from 20H on, all unmasked.
  void put_pic_set_up() {
    put(kCode, {0xB0, 0x11, 0xE6, 0x20, 0xB0, 0x20, 0xE6, 0x21, 0xB0, 0x04, 0xE6, 0x21,
                0xB0, 0x01, 0xE6, 0x21, 0xB0, 0x00, 0xE6, 0x21, 0xFB, 0xF4, 0xEB, 0xFD});
  }
  void enable_local_apic() {
    // Protected mode is far from here: 32-bit registers reach the page with FS's base.
    auto state = real_mode_at(kCode);
    state.gpr[4] = 0x1000;
    state.system.segments[4].base = kToFirst;
    // mov dword [fs:0F0h], 1FFh; sti; hlt; jmp -3
    put(kCode,
        {0x64, 0x66, 0xC7, 0x06, 0xF0, 0x00, 0xFF, 0x01, 0x00, 0x00, 0xFB, 0xF4, 0xEB, 0xFD});
    vcpu_->set_state(state);
  }
  /// Sends until the guest writes: it may take a while until it is ready for that.
  vcpu::Exit run_and(const std::function<void()>& send) {
    std::atomic<bool> is_back = false;
    std::thread sender([&] {
      while (!is_back) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        const std::lock_guard lock(port_writes_.mutex);
        if (port_writes_.writes.empty()) send();
      }
    });
    const auto exit = run();
    is_back = true;
    sender.join();
    return exit;
  }

  vcpu::InterruptChips* chips_ = nullptr;
};

class KvmSplitChips : public KvmChips {
 protected:
  KvmSplitChips() : KvmChips(IrqChip::kSplit) {}
};

TEST_F(KvmChips, AHaltIsTheKernelsAndAKickEndsIt) {
  EXPECT_TRUE(chips_->complete());
  // On a host that emulates it may take a while to the HLT.
  for (int i = 0; i < 100 && !vcpu_->state().activity.halted; ++i)
    ASSERT_EQ(run_and([this] { vcpu_->kick(); }).reason, ExitReason::kInterrupted);
  EXPECT_TRUE(vcpu_->state().activity.halted);
  EXPECT_THAT(chips_->describe_local_apic(0), HasSubstr("SPIV     0x000000ff"));
  EXPECT_THAT(chips_->describe(), HasSubstr("pin 23"));
}

TEST_F(KvmSplitChips, TheMachineHasTheOthers) {
  EXPECT_FALSE(chips_->complete());
  // The machine's 8259 has interrupt 5 at vector 25H, and LINT0 passes it on after power-on.
  EXPECT_EQ(run_and([this] {
              interrupts_.add(uint8_t{0x25});
              vcpu_->interrupt();
            }).reason,
            ExitReason::kInterrupted);
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0, 1, 0x41}));
}

TEST_F(KvmChips, ALineOfTheBoardGoesThroughThe8259) {
  put_pic_set_up();
  EXPECT_EQ(run_and([this] {
              chips_->set_line(5, true);
              chips_->set_line(5, false);
            }).reason,
            ExitReason::kInterrupted);
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0, 1, 0x41}));
  chips_->reset();
  EXPECT_THAT(chips_->describe(), HasSubstr("irq_base=00"));
}

TEST_F(KvmChips, AnEnabledLocalApicTakesMessages) {
  enable_local_apic();
  bool sent = false;
  EXPECT_EQ(run_and([&] { sent = chips_->send_msi(kToFirst, 0x41); }).reason,
            ExitReason::kInterrupted);
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0, 1, 0x41}));
  EXPECT_TRUE(sent);
  // Nobody has APIC ID 9.
  EXPECT_FALSE(chips_->send_msi(kToFirst | 9 << 12, 0x41));
}

struct Event {
  void signal() const { ASSERT_EQ(::eventfd_write(fd.get(), 1), 0); }
  [[nodiscard]] uint64_t take() const {
    eventfd_t count = 0;
    return ::eventfd_read(fd.get(), &count) == 0 ? count : 0;
  }
  UniqueFd fd{::eventfd(0, EFD_NONBLOCK)};
};

void events_send_messages(vcpu::InterruptChips& chips, Recorder& written,
                          const std::function<vcpu::Exit(const std::function<void()>&)>& run_and) {
  const Event event, other;
  auto connected = chips.connect_msi(event.fd.get(), kToFirst, 0x41);
  const auto second = chips.connect_msi(other.fd.get(), kToFirst, 0x25);
  ASSERT_NE(connected, nullptr);
  ASSERT_NE(second, nullptr);
  // The lower vector first: nobody ends these interrupts.
  for (const Event* sender : {&other, &event}) {
    EXPECT_EQ(run_and([&] { sender->signal(); }).reason, ExitReason::kInterrupted);
    EXPECT_THAT(written.writes, ElementsAre(Write{0, 1, 0x41}));
    EXPECT_EQ(sender->take(), 0u) << "the kernel takes what it sends";
    written.writes.clear();
  }
  connected.reset();
  event.signal();
  EXPECT_EQ(event.take(), 1u);
}

TEST_F(KvmChips, TheTaskPriorityIsOnesToSeeAndToSet) {
  EXPECT_EQ(chips_->task_priority(0), 0);
  chips_->set_task_priority(0, 9);
  EXPECT_EQ(chips_->task_priority(0), 9);
  EXPECT_THAT(chips_->describe_local_apic(0), HasSubstr("TPR      0x00000090"));
  vcpu_->set_state(vcpu_->state());
  EXPECT_EQ(chips_->task_priority(0), 9);
  EXPECT_EQ(chips_->task_priority(7), 0) << "nobody";
}

TEST_F(KvmChips, EventsSendMessages) {
  enable_local_apic();
  events_send_messages(*chips_, port_writes_, [this](const auto& send) { return run_and(send); });
}

TEST_F(KvmSplitChips, EventsSendMessagesBesideTheMachinesIoApic) {
  enable_local_apic();
  chips_->set_io_apic_route(7, kToFirst, 0x30);
  events_send_messages(*chips_, port_writes_, [this](const auto& send) { return run_and(send); });
  chips_->set_io_apic_route(7, kToFirst, 0x31);
  const Event event, ended;
  EXPECT_EQ(chips_->connect_line(event.fd.get(), 7, ended.fd.get()), nullptr);
}

TEST_F(KvmChips, AnEventHoldsALineUntilTheInterruptEnds) {
  put_pic_set_up();
  // mov al, 20h; out 20h, al (end of interrupt); mov al, 41h; out 80h, al; iret
  put(0x2000, {0xB0, 0x20, 0xE6, 0x20, 0xB0, 0x41, 0xE6, 0x80, 0xCF});
  const Event event, ended;
  const auto connected = chips_->connect_line(event.fd.get(), 5, ended.fd.get());
  ASSERT_NE(connected, nullptr);
  for (int i = 0; i < 2; ++i) {
    bool sent = false;
    EXPECT_EQ(run_and([&] {
                if (!std::exchange(sent, true)) event.signal();
              }).reason,
              ExitReason::kInterrupted);
    EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0, 1, 0x41}));
    EXPECT_EQ(ended.take(), 1u);
    port_writes_.writes.clear();
  }
}

}  // namespace
}  // namespace limen::kvm
