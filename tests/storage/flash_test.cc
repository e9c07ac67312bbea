#include <gtest/gtest.h>

#include <array>

#include "memory_disk.h"
#include "storage/flash/parallel_flash.h"

namespace limen::storage {
namespace {

constexpr uint64_t kSize = 4 * ParallelFlash::kBlockSize, kEnd = uint64_t{1} << 32;
constexpr uint64_t kStart = kEnd - kSize;

class FlashTest : public testing::Test {
 protected:
  FlashTest() {
    const std::array layout = {memory::GuestMemory::Layout{{0}, 0x1'0000}};
    memory_ = std::move(*memory::GuestMemory::create(layout, {}, true, 4 * kSize));
    std::ranges::fill(disk_.content, uint8_t{0x5A});
  }
  ParallelFlash& flash() {
    if (flash_ == nullptr)
      flash_ = std::move(*ParallelFlash::create("system.flash0", *memory_, mmio_, disk_, kEnd));
    return *flash_;
  }
  /// As a processor does.
  uint8_t read(uint64_t offset) {
    std::byte byte{};
    if (memory_->read({kStart + offset}, {&byte, 1})) return static_cast<uint8_t>(byte);
    return static_cast<uint8_t>(mmio_.read(kStart + offset, 1));
  }
  void write(uint64_t offset, uint8_t value) { mmio_.write(kStart + offset, 1, value); }
  bool is_memory() {
    std::byte byte{};
    return memory_->read({kStart}, {&byte, 1}).has_value();
  }

  memory::IoSpace mmio_{"mmio"};
  std::unique_ptr<memory::GuestMemory> memory_;
  MemoryDisk disk_{kSize};
  std::unique_ptr<ParallelFlash> flash_;
};

TEST_F(FlashTest, IsMemoryThatCannotBeWrittenAsSuch) {
  flash();
  EXPECT_EQ(read(0), 0x5A);
  EXPECT_EQ(read(kSize - 1), 0x5A);
  EXPECT_TRUE(memory_->span({kStart}, 1).empty());
}

TEST_F(FlashTest, TellsItsStatusToWhoProbesIt) {
  flash();
  write(0, 0x50);  // clear status
  EXPECT_EQ(read(0), 0x5A);
  write(0, 0x70);
  EXPECT_FALSE(is_memory());
  EXPECT_EQ(read(0), 0x00);
  write(0, 0xFF);
  EXPECT_TRUE(is_memory());
}

TEST_F(FlashTest, ProgramsBytesAndKeepsThem) {
  flash();
  for (const auto& [offset, value] : {std::pair{0x1FFEu, 0x11}, {0x1FFFu, 0x22}, {0x2000u, 0x33}}) {
    write(offset, 0x10);
    write(offset, static_cast<uint8_t>(value));
    EXPECT_EQ(read(offset) & 0xB0, 0x80) << "ready, without an error";
  }
  write(0x2000, 0xFF);
  EXPECT_EQ(read(0x1FFF), 0x22);
  EXPECT_EQ(disk_.content[0x1FFE], 0x11);
  EXPECT_EQ(disk_.content[0x2000], 0x33);
  EXPECT_EQ(disk_.content[0x2001], 0x5A);
}

TEST_F(FlashTest, ErasesABlock) {
  flash();
  write(0x1800, 0x20);
  write(0x1800, 0xD0);
  write(0, 0xFF);
  EXPECT_EQ(read(0xFFF), 0x5A);
  EXPECT_EQ(read(0x1000), 0xFF);
  EXPECT_EQ(read(0x1FFF), 0xFF);
  EXPECT_EQ(read(0x2000), 0x5A);
  EXPECT_EQ(disk_.content[0x1000], 0xFF);
}

TEST_F(FlashTest, AnEraseThatIsNotConfirmedIsAnError) {
  flash();
  write(0, 0x20);
  write(0, 0x12);
  EXPECT_EQ(read(0) & 0x30, 0x30);
  write(0, 0xFF);
  EXPECT_EQ(read(0), 0x5A);
}

TEST_F(FlashTest, WritesThroughItsBuffer) {
  flash();
  write(0x40, 0xE8);
  write(0x40, 3);
  for (unsigned i = 0; i < 4; ++i) write(0x40 + i, static_cast<uint8_t>(i));
  write(0x40, 0xD0);
  write(0x40, 0xFF);
  EXPECT_EQ(read(0x43), 3);
  EXPECT_EQ(read(0x44), 0x5A);
  EXPECT_EQ(disk_.content[0x42], 2);
}

TEST_F(FlashTest, DescribesItself) {
  flash();
  write(0, 0x98);
  EXPECT_EQ(read(0x10), 'Q');
  EXPECT_EQ(read(0x12), 'Y');
  EXPECT_EQ(read(0x27), 14) << "2^14 bytes";
  EXPECT_EQ(read(0x2D), 3) << "four blocks";
  EXPECT_EQ(read(0x2F) | read(0x30) << 8, 0x10) << "of 16 times 256 bytes";
  write(0, 0x90);
  EXPECT_EQ(read(0), 0x89);
}

TEST_F(FlashTest, AResetEndsWhatWasUnderWay) {
  flash();
  write(0, 0x20);
  flash().reset();
  EXPECT_TRUE(is_memory());
  EXPECT_EQ(read(0), 0x5A);
}

TEST_F(FlashTest, SizesThatAreNoBlocksAreRefused) {
  MemoryDisk odd{kSize + 512};
  const auto flash = ParallelFlash::create("system.flash0", *memory_, mmio_, odd, kEnd);
  ASSERT_FALSE(flash);
  EXPECT_NE(flash.error().message.find("invalid size 16896"), std::string::npos)
      << flash.error().message;
}

}  // namespace
}  // namespace limen::storage
