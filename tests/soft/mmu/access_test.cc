// Accesses that are more than a load or a store: page crossings, MMIO, code pages, watchpoints,
// #AC.
#include <cstring>

#include "soft/mmu/mmu_fixture.h"

namespace limen::soft {
namespace {

using namespace x86;  // NOLINT(google-build-using-namespace)

constexpr uint64_t kRw = kPresent | kWritable;
constexpr uint64_t kRwu = kPresent | kWritable | kUserPage;

class MmuAccess : public MmuTest {};

TEST_F(MmuAccess, CrossesIntoAPageElsewhere) {
  map(0x1000, 0x40'0000, kRw);
  map(0x2000, 0x90'0000, kRw);
  long_mode();
  for (uint64_t offset = 0xFF9; offset < 0x1000; ++offset) {
    const uint64_t value = 0x1122'3344'5566'7788 + offset;
    mmu_->write<uint64_t>(0x1000 + offset, value);
    EXPECT_EQ(mmu_->read<uint64_t>(0x1000 + offset), value);
    const auto first = 0x1000 - offset;
    std::array<uint8_t, 8> bytes;
    for (uint64_t i = 0; i < 8; ++i)
      bytes[i] =
          i < first ? peek<uint8_t>(0x40'0000 + offset + i) : peek<uint8_t>(0x90'0000 + i - first);
    uint64_t there;
    std::memcpy(&there, bytes.data(), sizeof there);
    EXPECT_EQ(there, value);
  }
}

TEST_F(MmuAccess, CrossingWriteWhoseSecondPageFaultsWritesNothing) {
  map(0x1000, 0x40'0000, kRw);
  long_mode();
  poke<uint32_t>(0x40'0FFC, 0xAAAA'AAAA);
  const auto fault = caught([&] { mmu_->write<uint64_t>(0x1FFC, 0); });
  EXPECT_EQ(code_of(fault, 0x2000), 2);
  EXPECT_EQ(peek<uint32_t>(0x40'0FFC), 0xAAAA'AAAA);
  const std::array<std::byte, 5000> many{};
  EXPECT_EQ(code_of(caught([&] { mmu_->write_bytes(0x1800, many); }), 0x2000), 2);
  EXPECT_EQ(peek<uint32_t>(0x40'0FFC), 0xAAAA'AAAA);
}

TEST_F(MmuAccess, CopiesBytesAcrossManyPages) {
  for (uint64_t i = 0; i < 4; ++i) map(0x1000 * (i + 1), 0x40'0000 + 0x2000 * i, kRw);
  long_mode();
  std::vector<std::byte> out(10000), in(10000);
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7);
  mmu_->write_bytes(0x1234, out);
  mmu_->read_bytes(0x1234, in);
  EXPECT_EQ(in, out);
  EXPECT_EQ(peek<uint8_t>(0x42'0000 - 0x1E000), static_cast<uint8_t>((0x2000 - 0x1234) * 7));
}

TEST_F(MmuAccess, DeviceSeesTheAccessSizesOfTheInstruction) {
  map(0x1000, kDevice, kRw);
  long_mode();
  EXPECT_EQ(mmu_->read<uint8_t>(0x1010), 0x10);
  EXPECT_EQ(mmu_->read<uint32_t>(0x1020), 0x2020'2020u);
  mmu_->write<uint64_t>(0x1008, 0x1122'3344'5566'7788);
  mmu_->write<uint16_t>(0x1002, 0xBEEF);
  const std::vector<RecordingDevice::Access> expected = {{false, 0x10, 1, 0},
                                                         {false, 0x20, 4, 0},
                                                         {true, 8, 8, 0x1122'3344'5566'7788},
                                                         {true, 2, 2, 0xBEEF}};
  EXPECT_EQ(device_.accesses, expected);
}

TEST_F(MmuAccess, WideAndCrossingDeviceAccessesAreSplit) {
  map(0x1000, kDevice, kRw);
  map(0x2000, 0x40'0000, kRw);
  long_mode();
  std::array<std::byte, 16> wide{};
  mmu_->write_bytes(0x1040, wide);
  mmu_->write<uint32_t>(0x1FFD, 0x4433'2211);
  const std::vector<RecordingDevice::Access> expected = {
      {true, 0x40, 8, 0}, {true, 0x48, 8, 0}, {true, 0xFFD, 2, 0x2211}, {true, 0xFFF, 1, 0x33}};
  EXPECT_EQ(device_.accesses, expected);
  EXPECT_EQ(peek<uint8_t>(0x40'0000), 0x44);
}

TEST_F(MmuAccess, DeviceIsNotTouchedWhenTheSecondPageFaults) {
  map(0x1000, kDevice, kRw);
  long_mode();
  EXPECT_TRUE(caught([&] { mmu_->write<uint32_t>(0x1FFE, 0); }));
  EXPECT_TRUE(caught([&] { mmu_->read<uint32_t>(0x1FFE); }));
  EXPECT_TRUE(device_.accesses.empty());
}

TEST_F(MmuAccess, HostPointersReachRamOnly) {
  map(0x1000, 0x40'0000, kRw);
  map(0x3000, kDevice, kRw);
  long_mode();
  EXPECT_EQ(mmu_->host_for_read(0x1010, 8), ram_->span({0x40'0010}, 8).data());
  EXPECT_EQ(mmu_->host_for_write(0x1010, 64), ram_->span({0x40'0010}, 8).data());
  EXPECT_EQ(mmu_->host_for_read(0x1FFC, 8), nullptr);
  EXPECT_EQ(mmu_->host_for_write(0x3000, 4), nullptr);
  EXPECT_TRUE(caught([&] { mmu_->host_for_write(0x5000, 4); }));
}

TEST_F(MmuAccess, FetchesFromDevicesThroughThePhysicalBus) {
  map(0x1000, kDevice, kRw);
  long_mode();
  const FetchResult result = mmu_->fetch(0x1234);
  EXPECT_EQ(result.host_page, nullptr);
  EXPECT_EQ(result.page, GuestPhysicalAddress{kDevice});
  std::array<std::byte, 2> bytes;
  mmu_->read_physical(result.page + 0x234, bytes);
  EXPECT_EQ(bytes[0], std::byte{0x34});
  EXPECT_EQ(bytes[1], std::byte{0x35});
}

TEST_F(MmuAccess, FetchNamesThePageOfRam) {
  map(0x1000, 0x40'0000, kPresent);
  long_mode();
  for (int i = 0; i < 2; ++i) {
    const FetchResult result = mmu_->fetch(0x1FFF);
    EXPECT_EQ(result.host_page,
              reinterpret_cast<const uint8_t*>(ram_->span({0x40'0000}, 1).data()));
    EXPECT_EQ(result.ram_page, 0x400u);
  }
}

class MmuCode : public MmuTest {
 protected:
  static constexpr uint64_t kCodePage = 0x400;  // RAM page at 0x40'0000
  uint32_t generation() { return ram_->code_generations()[kCodePage].load(); }
  uint32_t watch(uint32_t offset, uint64_t page = kCodePage) {
    return mmu_->watch_code(page, offset);
  }
  void mark(uint32_t offset, uint32_t size, uint64_t page = kCodePage) {
    mmu_->mark_code(page, offset,
                    {reinterpret_cast<const uint8_t*>(ram_->page_data(page)) + offset, size});
  }
};

TEST_F(MmuCode, WriteToDecodedCodeRaisesTheGeneration) {
  mmu_->write<uint8_t>(0x40'0100, 1);  // leaves a write tag, which mark_code must take
  const uint32_t before = watch(0x100);
  mark(0x100, 3);
  EXPECT_EQ(mmu_->host_for_write(0x40'0100, 1), nullptr);
  EXPECT_FALSE(mmu_->code_written);
  mmu_->write<uint8_t>(0x40'0102, 0x90);
  EXPECT_TRUE(mmu_->code_written);
  EXPECT_EQ(mmu_->code_written_page, kCodePage);
  EXPECT_EQ(generation(), before + 1);
  EXPECT_EQ(peek<uint8_t>(0x40'0102), 0x90);
}

TEST_F(MmuCode, WriteBesideDecodedCodeDoesNot) {
  const uint32_t before = watch(0x100);
  mark(0x100, 0x41);  // chunks 4 and 5
  mmu_->write<uint32_t>(0x40'00FC, 1);
  mmu_->write<uint32_t>(0x40'0180, 2);
  EXPECT_FALSE(mmu_->code_written);
  EXPECT_EQ(generation(), before);
  EXPECT_EQ(peek<uint32_t>(0x40'0180), 2u);
  mmu_->write<uint32_t>(0x40'00FE, 3);  // reaches into chunk 4
  EXPECT_TRUE(mmu_->code_written);
}

TEST_F(MmuCode, PageIsWritableAgainOnceItsCodeIsInvalid) {
  watch(0);
  mark(0, 4096);
  mmu_->write<uint8_t>(0x40'0FFF, 1);
  EXPECT_TRUE(std::exchange(mmu_->code_written, false));
  EXPECT_NE(mmu_->host_for_write(0x40'0FFF, 1), nullptr);
  mmu_->write<uint8_t>(0x40'0FFF, 2);
  EXPECT_FALSE(mmu_->code_written);
  mark(0xFF0, 16);
  mmu_->write<uint8_t>(0x40'0FFF, 3);
  EXPECT_TRUE(mmu_->code_written);
}

TEST_F(MmuCode, EveryAliasAndViewLosesItsWriteTag) {
  map(0x1000, 0x40'0000, kRwu);
  map(0x7000, 0x40'0000, kRwu);
  long_mode(cr4::kPcide);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, false));
  mmu_->write<uint8_t>(0x1000, 1);
  mmu_->write<uint8_t>(0x7000, 1);
  user();
  mmu_->write<uint8_t>(0x1000, 1);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 2, false));
  mode_.cr3 = kRoot | 2;
  mmu_->write<uint8_t>(0x7000, 1);

  watch(0);
  const auto expect_noticed = [&](uint64_t linear) {
    mark(0, 1);
    mmu_->write<uint8_t>(linear, 2);
    EXPECT_TRUE(std::exchange(mmu_->code_written, false));
  };
  expect_noticed(0x7000);
  mmu_->write<uint8_t>(0x1000, 1);
  expect_noticed(0x1000);
  user(false);
  ASSERT_TRUE(mmu_->load_cr3(kRoot | 1, true));
  mode_.cr3 = kRoot | 1;
  set_mode();
  mmu_->write<uint8_t>(0x1000, 1);
  mmu_->write<uint8_t>(0x7000, 1);
  mark(0, 1);
  mmu_->write<uint8_t>(0x1000, 2);
  EXPECT_TRUE(std::exchange(mmu_->code_written, false));
  mark(0, 1);
  mmu_->write<uint8_t>(0x7000, 2);
  EXPECT_TRUE(mmu_->code_written);
}

TEST_F(MmuCode, DeviceWritesRaiseTheGeneration) {
  const uint32_t before = watch(0);
  const std::array<std::byte, 4> bytes{};
  ASSERT_TRUE(ram_->write({0x40'0000}, bytes));
  EXPECT_EQ(generation(), before + 1);
}

TEST_F(MmuCode, AccessedBitInDecodedBytesCountsAsAWrite) {
  const uint64_t leaf = map(0x1000, 0x40'0000, kRw);
  long_mode();
  watch(leaf & 0xFFF, leaf >> 12);
  mark(leaf & 0xFFF, 8, leaf >> 12);
  mmu_->read<uint8_t>(0x1000);
  EXPECT_TRUE(mmu_->code_written);
  EXPECT_EQ(mmu_->code_written_page, leaf >> 12);
}

class MmuWatch : public MmuTest {
 protected:
  // Breakpoint `number`; kind 1 watches writes, 3 reads and writes; `length` as DR7 encodes it.
  void watch(unsigned number, uint64_t address, uint64_t kind, uint64_t length) {
    debug_[number] = address;
    debug_[7] |=
        uint64_t{1} << (2 * number) | kind << (16 + 4 * number) | length << (18 + 4 * number);
    mmu_->set_watchpoints(debug_);
  }
  std::array<uint64_t, 8> debug_{};
};

TEST_F(MmuWatch, ReportsWritesButNotReads) {
  mmu_->write<uint32_t>(0x40'0010, 1);
  watch(1, 0x40'0010, 1, 3);
  mmu_->read<uint32_t>(0x40'0010);
  EXPECT_FALSE(mmu_->has_watch_hits());
  mmu_->write<uint8_t>(0x40'0013, 1);
  EXPECT_EQ(mmu_->take_watch_hits(), 2u);
  EXPECT_EQ(mmu_->take_watch_hits(), 0u);
  mmu_->write<uint8_t>(0x40'0014, 1);
  mmu_->write<uint16_t>(0x40'000E, 1);
  EXPECT_FALSE(mmu_->has_watch_hits());
  mmu_->write<uint64_t>(0x40'000C, 1);
  EXPECT_TRUE(mmu_->has_watch_hits());
}

TEST_F(MmuWatch, ReportsReadsWhereAsked) {
  watch(0, 0x40'0010, 3, 2);  // 8 bytes
  watch(3, 0x40'0015, 3, 0);  // 1 byte
  mmu_->read<uint16_t>(0x40'0014);
  EXPECT_EQ(mmu_->take_watch_hits(), 9u);
  mmu_->write<uint8_t>(0x40'0017, 1);
  EXPECT_EQ(mmu_->take_watch_hits(), 1u);
  EXPECT_EQ(mmu_->host_for_read(0x40'0800, 1), nullptr);
}

TEST_F(MmuWatch, DisarmedWatchpointsAreFastAgain) {
  watch(0, 0x40'0010, 1, 0);
  EXPECT_EQ(mmu_->host_for_write(0x40'0010, 1), nullptr);
  debug_[7] = 0;
  mmu_->set_watchpoints(debug_);
  EXPECT_NE(mmu_->host_for_write(0x40'0010, 1), nullptr);
  mmu_->write<uint8_t>(0x40'0010, 1);
  EXPECT_FALSE(mmu_->has_watch_hits());
}

TEST_F(MmuWatch, FaultingAccessHitsNothing) {
  map(0x1000, 0x40'0000, kPresent);
  long_mode();
  watch(0, 0x1000, 1, 0);
  EXPECT_EQ(write_fault(0x1000), 3);
  EXPECT_FALSE(mmu_->has_watch_hits());
}

class MmuAlignment : public MmuTest {
 protected:
  bool misaligned(uint64_t linear) {
    const auto exception = caught([&] { mmu_->read<uint32_t>(linear); });
    return exception && exception->vector == Vector::kAlignmentCheck && exception->has_error_code &&
           exception->error_code == 0;
  }
};

TEST_F(MmuAlignment, ChecksOnlyUserAccessesWithAmAndAc) {
  map(0x1000, 0x40'0000, kRwu);
  long_mode();
  mmu_->read<uint8_t>(0x1000);
  for (unsigned state = 0; state < 8; ++state) {
    mode_.user = state & 1;
    mode_.alignment_check = state & 2;
    mode_.cr0 = cr0::kProtection | cr0::kPaging | (state & 4 ? cr0::kAlignmentMask : 0);
    set_mode();
    EXPECT_EQ(misaligned(0x1002), state == 7) << state;
    EXPECT_FALSE(misaligned(0x1004)) << state;
  }
}

TEST_F(MmuAlignment, ChecksPointersAndLeavesBytesAndImplicitAccessesAlone) {
  map(0x1000, 0x40'0000, kRwu);
  mode_.cr0 = cr0::kAlignmentMask;
  mode_.user = mode_.alignment_check = true;
  long_mode();
  EXPECT_TRUE(caught([&] { mmu_->host_for_write(0x1001, 2); }));
  EXPECT_TRUE(caught([&] { mmu_->write<uint64_t>(0x1004, 0); }));
  EXPECT_NE(mmu_->host_for_write(0x1008, 8), nullptr);
  EXPECT_EQ(mmu_->read<uint8_t>(0x1001), 0);
  EXPECT_EQ(mmu_->read_supervisor<uint32_t>(0x1001), 0u);
  EXPECT_EQ(read_fault(0x9001), 4);
}

}  // namespace
}  // namespace limen::soft
