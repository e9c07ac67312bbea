// Writes that the kernel collects.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "kvm/guest.h"

namespace limen::kvm {
namespace {

using testing::ElementsAre;
using Write = Recorder::Write;

/// Takes writes of its first half late, and keeps them where others' are kept.
struct Slow final : memory::IoHandler {
  explicit Slow(Recorder& recorder) : log(recorder) {}
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    const std::lock_guard lock(log.mutex);
    log.writes.push_back({0x100 + offset, size, value});
  }
  [[nodiscard]] std::span<const memory::LateWrites> late_writes() const override { return late; }

  Recorder& log;
  std::vector<memory::LateWrites> late = std::vector(1, memory::LateWrites{.offset = 0, .size = 8});
};

class KvmLateWrites : public KvmGuest {
 protected:
  KvmLateWrites() : KvmGuest({.irqchip = IrqChip::kOn}) {}
  void SetUp() override {
    KvmGuest::SetUp();
    if (IsSkipped()) return;
    if (vm_->late_memory_writes() == nullptr) GTEST_SKIP() << "no KVM_CAP_COALESCED_MMIO";
    mmio_.set_late_write_taker(vm_->late_memory_writes());
    ports_.set_late_write_taker(vm_->late_port_writes());
    mmio_.claim(0xB0000, 16, slow_, "slow");
    port_writes_.on_write = [this](const Write&) { vcpu_->kick(); };
  }

  Slow slow_{port_writes_};
};

TEST_F(KvmLateWrites, KeepTheirOrderAndComeBeforeAnythingElse) {
  // mov ax, 0B000h; mov ds, ax; mov word [2], 1; mov byte [0], 2; mov word [2], 3; out 80h, al; hlt
  put(kCode, {0xB8, 0x00, 0xB0, 0x8E, 0xD8, 0xC7, 0x06, 0x02, 0x00, 0x01, 0x00, 0xC6, 0x06,
              0x00, 0x00, 0x02, 0xC7, 0x06, 0x02, 0x00, 0x03, 0x00, 0xE6, 0x80, 0xF4});
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0x102, 2, 1}, Write{0x100, 1, 2},
                                               Write{0x102, 2, 3}, Write{0, 1, 0}));
  EXPECT_THAT(vcpu_->statistics(), testing::Not(testing::HasSubstr("KVM_EXIT_MMIO")));
}

TEST_F(KvmLateWrites, AreHadByWhoAsks) {
  // mov ax, 0B000h; mov ds, ax; mov word [2], 1; hlt
  put(kCode, {0xB8, 0x00, 0xB0, 0x8E, 0xD8, 0xC7, 0x06, 0x02, 0x00, 0x01, 0x00, 0xF4});
  std::thread processor([this] { run(); });
  for (bool there = false; !there;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    mmio_.deliver_late_writes();
    const std::lock_guard lock(port_writes_.mutex);
    there = !port_writes_.writes.empty();
  }
  vcpu_->kick();
  processor.join();
  EXPECT_THAT(port_writes_.writes, ElementsAre(Write{0x102, 2, 1}));
}

TEST_F(KvmLateWrites, ComeAtOnceElsewhereAndAfterwards) {
  // mov ax, 0B000h; mov ds, ax; mov word [8], 1; mov word [2], 2; out 80h, al; jmp -17
  put(kCode, {0xB8, 0x00, 0xB0, 0x8E, 0xD8, 0xC7, 0x06, 0x08, 0x00, 0x01, 0x00,
              0xC7, 0x06, 0x02, 0x00, 0x02, 0x00, 0xE6, 0x80, 0xEB, 0xF0});
  const auto one_round = [this] {
    port_writes_.writes.clear();
    EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
    return vcpu_->statistics();
  };
  EXPECT_THAT(one_round(), testing::HasSubstr("KVM_EXIT_MMIO: 1\n"));
  EXPECT_THAT(port_writes_.writes,
              ElementsAre(Write{0x108, 2, 1}, Write{0x102, 2, 2}, Write{0, 1, 0}));
  // Claimed by one that wants its writes at once.
  mmio_.release(0xB0000, slow_);
  slow_.late.clear();
  mmio_.claim(0xB0000, 16, slow_, "prompt");
  EXPECT_THAT(one_round(), testing::HasSubstr("KVM_EXIT_MMIO: 3\n"));
  mmio_.release(0xB0000, slow_);
}

TEST_F(KvmLateWrites, AreThoseOfPortsToo) {
  if (vm_->late_port_writes() == nullptr) GTEST_SKIP() << "no KVM_CAP_COALESCED_PIO";
  Slow port(port_writes_);
  port.late.front().size = 1;
  ports_.claim(0x70, 2, port, "index and data");
  // mov al, 7; out 70h, al; out 71h, al; out 80h, al; hlt
  put(kCode, {0xB0, 0x07, 0xE6, 0x70, 0xE6, 0x71, 0xE6, 0x80, 0xF4});
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  EXPECT_THAT(port_writes_.writes,
              ElementsAre(Write{0x100, 1, 7}, Write{0x101, 1, 7}, Write{0, 1, 7}));
  EXPECT_THAT(vcpu_->statistics(), testing::HasSubstr("KVM_EXIT_IO: 2\n"));
  ports_.release(0x70, port);
}

}  // namespace
}  // namespace limen::kvm
