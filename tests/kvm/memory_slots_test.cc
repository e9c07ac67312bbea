// Guest memory as the kernel sees it.
#include "kvm/memory_slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "kvm/guest.h"

namespace limen::kvm {
namespace {

using testing::ElementsAre;

TEST(VisibleMemory, RamHidesMappingsAndLaterOnesHideEarlierOnes) {
  const memory::GuestMemory::Layout layout[] = {{.start = {0}, .size = 0xA0000},
                                                {.start = {0x10'0000}, .size = 0x10'0000}};
  const auto memory = *memory::GuestMemory::create(layout, UniqueFd{}, true, 0x8000);
  const auto& regions = memory->regions();
  std::byte* const low = regions[0].host;
  std::byte* const high = regions[1].host;
  const MemoryPiece first{{0}, 0xA0000, low, true}, last{{0x10'0000}, 0x10'0000, high, true};
  EXPECT_THAT(visible_memory(*memory), ElementsAre(first, last));

  const auto under = *memory->reserve(0x4000), over = *memory->reserve(0x1000);
  memory->map({0x9F000}, under);  // its first page is hidden by RAM
  memory->map({0xA1000}, over, false);
  EXPECT_THAT(visible_memory(*memory),
              ElementsAre(first, MemoryPiece{{0xA0000}, 0x1000, under.data() + 0x1000, true},
                          MemoryPiece{{0xA1000}, 0x1000, over.data(), false},
                          MemoryPiece{{0xA2000}, 0x1000, under.data() + 0x3000, true}, last));
  memory->unmap({0xA1000}, over);
  EXPECT_THAT(
      visible_memory(*memory),
      ElementsAre(first, MemoryPiece{{0xA0000}, 0x3000, under.data() + 0x1000, true}, last));
}

TEST(VisibleMemory, RamStaysWhatItIsWhenMemoryThatFollowsItIsMapped) {
  const memory::GuestMemory::Layout layout[] = {{.start = {0}, .size = 0xA0000},
                                                {.start = {0x10'0000}, .size = 0x10'0000}};
  const auto memory = *memory::GuestMemory::create(layout, UniqueFd{}, true, 0x8000);
  const auto before = visible_memory(*memory);
  const auto& low = memory->regions()[0];
  memory->map({0xA0000}, {low.host + low.size, 0x1000});  // as shadow RAM may
  const auto after = visible_memory(*memory);
  ASSERT_EQ(after.size(), 3u);
  EXPECT_EQ(after[0], before[0]);
  EXPECT_EQ(after[2], before[1]);
}

/// How the kernel notes what processors write: by bitmaps or in rings.
class KvmDirtyPages : public KvmGuest, public testing::WithParamInterface<unsigned> {
 protected:
  KvmDirtyPages() : KvmGuest({.irqchip = IrqChip::kOff, .dirty_ring_size = GetParam()}) {}
  void SetUp() override {
    KvmGuest::SetUp();
    if (IsSkipped()) return;
    if (GetParam() != 0 && device_->extension(KVM_CAP_DIRTY_LOG_RING) == 0 &&
        device_->extension(KVM_CAP_DIRTY_LOG_RING_ACQ_REL) == 0)
      GTEST_SKIP() << "no KVM_CAP_DIRTY_LOG_RING";
    port_writes_.on_write = [this](const Recorder::Write&) { vcpu_->kick(); };
  }
};

INSTANTIATE_TEST_SUITE_P(, KvmDirtyPages, testing::Values(0, 1024), [](const auto& parameter) {
  return parameter.param == 0 ? "Bitmap" : "Ring";
});

TEST_P(KvmDirtyPages, ThatAGuestWritesAreLogged) {
  // mov [5000h], al; mov [6000h], al; out 80h, al; jmp -10
  put(kCode, {0xA2, 0x00, 0x50, 0xA2, 0x00, 0x60, 0xE6, 0x80, 0xEB, 0xF6});
  ASSERT_TRUE(vm_->log_writes(true));
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  // A paravirtual back end adds pages of its own doing (of code, for one).
  EXPECT_THAT(*vm_->take_written_pages(), testing::IsSupersetOf({5, 6}));
  EXPECT_THAT(*vm_->take_written_pages(), testing::Not(testing::Contains(5)));
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  EXPECT_THAT(*vm_->take_written_pages(), testing::IsSupersetOf({5, 6}));
  ASSERT_TRUE(vm_->log_writes(false));
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  EXPECT_THAT(*vm_->take_written_pages(), testing::IsEmpty());
}

TEST_P(KvmDirtyPages, AreNeverTooMany) {
  // mov rdi, 100000h; mov [rdi], eax; out 81h, al; add rdi, 1000h; cmp rdi, 800000h; jb -20;
  // out 80h, al; jmp -2. A back end that emulates many instructions at a time looks at the ring
  // between them only when one stops it.
  put(kCode, {0x48, 0xC7, 0xC7, 0x00, 0x00, 0x10, 0x00, 0x89, 0x07, 0xE6, 0x81,
              0x48, 0x81, 0xC7, 0x00, 0x10, 0x00, 0x00, 0x48, 0x81, 0xFF, 0x00,
              0x00, 0x80, 0x00, 0x72, 0xEC, 0xE6, 0x80, 0xEB, 0xFE});
  port_writes_.on_write = [this](const Recorder::Write& write) {
    if (write.offset == 0) vcpu_->kick();
  };
  vcpu_->set_state(long_mode());
  ASSERT_TRUE(vm_->log_writes(true));
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  std::vector<uint64_t> expected;
  for (uint64_t page = 0x10'0000; page < kRam; page += memory::kPageSize)
    expected.push_back(memory_->page_index({page}));
  ASSERT_GT(expected.size(), 1024u);
  EXPECT_TRUE(std::ranges::includes(*vm_->take_written_pages(), expected));
}

TEST_P(KvmDirtyPages, AreKeptWhenMappingsChange) {
  // mov ax, 0B000h; mov ds, ax; mov [0], al; out 80h, al; jmp -2
  put(kCode, {0xB8, 0x00, 0xB0, 0x8E, 0xD8, 0xA2, 0x00, 0x00, 0xE6, 0x80, 0xEB, 0xFE});
  const auto there = *memory_->reserve(0x1000);
  memory_->map({0xB0000}, there);
  const uint64_t page = memory_->page_index({0xB0000});
  ASSERT_TRUE(vm_->log_writes(true));
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  memory_->unmap({0xB0000}, there);
  EXPECT_THAT(*vm_->take_written_pages(), testing::Contains(page));
}

/// A device with one register that is only ever written to be noticed.
struct Belled final : memory::IoHandler {
  uint64_t io_read(uint64_t, unsigned) override { return 0; }
  void io_write(uint64_t offset, unsigned size, uint64_t value) override {
    writes.push_back({offset, size, value});
  }
  [[nodiscard]] std::span<const memory::Doorbell> doorbells() const override { return bells; }

  UniqueFd event{::eventfd(0, EFD_NONBLOCK)};
  std::vector<memory::Doorbell> bells{
      {.offset = 0x10, .size = 2, .value = 1, .event = event.get()}};
  std::vector<Recorder::Write> writes;
};

TEST_F(KvmGuest, ADoorbellRingsWithoutStoppingTheProcessor) {
  ASSERT_NE(vm_->doorbell_taker(), nullptr);
  mmio_.set_doorbell_taker(vm_->doorbell_taker());
  Belled device;
  mmio_.claim(0xB0000, 0x1000, device, "bell");
  // mov ax, 0B000h; mov ds, ax; mov word [10h], 1 (twice), 2; out 80h, al; jmp -24
  put(kCode, {0xB8, 0x00, 0xB0, 0x8E, 0xD8, 0xC7, 0x06, 0x10, 0x00, 0x01, 0x00, 0xC7, 0x06, 0x10,
              0x00, 0x01, 0x00, 0xC7, 0x06, 0x10, 0x00, 0x02, 0x00, 0xE6, 0x80, 0xEB, 0xE5});
  port_writes_.on_write = [this](const Recorder::Write&) { vcpu_->kick(); };
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  uint64_t rung = 0;
  EXPECT_EQ(::read(device.event.get(), &rung, sizeof rung), sizeof rung);
  EXPECT_EQ(rung, 2u);
  EXPECT_THAT(device.writes, ElementsAre(Recorder::Write{0x10, 2, 2}));
  // No more once the device is elsewhere.
  mmio_.release(0xB0000, device);
  EXPECT_EQ(run().reason, vcpu::ExitReason::kInterrupted);
  EXPECT_LT(::read(device.event.get(), &rung, sizeof rung), 0);
}

}  // namespace
}  // namespace limen::kvm
