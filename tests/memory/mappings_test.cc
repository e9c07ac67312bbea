// Mappings beside RAM: firmware and video memory that come and go.
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "memory/guest_memory.h"

namespace limen::memory {
namespace {

constexpr uint64_t kRam = 1 << 20, kHole = 0x10'0000;

struct Counter final : MappingListener {
  void mappings_changed() override { ++count; }
  int count = 0;
};

class Mappings : public testing::Test {
 protected:
  static std::unique_ptr<GuestMemory> make() {
    const std::array layout = {GuestMemory::Layout{{0}, kRam},
                               GuestMemory::Layout{{0x20'0000}, kRam, kHole}};
    return std::move(*GuestMemory::create(layout, {}, true, 4 * kPageSize));
  }
  std::span<std::byte> reserve(uint64_t size) {
    auto bytes = memory_->reserve(size);
    EXPECT_TRUE(bytes);
    return *bytes;
  }
  std::unique_ptr<GuestMemory> memory_ = make();
};

TEST_F(Mappings, ReserveGivesWhatCreateWasToldAndNoMore) {
  reserve(3 * kPageSize);
  const auto more = memory_->reserve(2 * kPageSize);
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().message, "8192 bytes of memory beside RAM: 4096 are left");
  reserve(1);
}

TEST_F(Mappings, AreReadAndWrittenLikeRamAndHaveNumbersOfTheirOwn) {
  const auto bytes = reserve(2 * kPageSize);
  EXPECT_TRUE(memory_->span({0x8000'0000}, 16).empty());
  memory_->map({0x8000'0000}, bytes);
  ASSERT_EQ(memory_->span({0x8000'1000}, 16).data(), bytes.data() + kPageSize);
  EXPECT_TRUE(memory_->span({0x8000'1FF8}, 16).empty()) << "goes on behind the end";
  // Behind RAM and the hole in its file.
  EXPECT_EQ(memory_->page_index({0x8000'1000}), (2 * kRam + kHole) / kPageSize + 1);
  EXPECT_EQ(memory_->page_index({0x20'0000}), (kRam + kHole) / kPageSize);
  memory_->unmap({0x8000'0000}, bytes);
  EXPECT_TRUE(memory_->span({0x8000'1000}, 16).empty());
  EXPECT_EQ(memory_->page_index({0x8000'1000}), memory_->page_count());
}

TEST_F(Mappings, WhatCannotBeWrittenIsOnlyRead) {
  const auto rom = reserve(kPageSize);
  rom[5] = std::byte{0x5A};
  memory_->map({0xFFFF'F000}, rom, false);
  std::byte byte{};
  EXPECT_TRUE(memory_->read({0xFFFF'F005}, {&byte, 1}));
  EXPECT_EQ(byte, std::byte{0x5A});
  EXPECT_TRUE(memory_->span({0xFFFF'F005}, 1).empty());
  EXPECT_FALSE(memory_->write({0xFFFF'F005}, {&byte, 1}));
}

TEST_F(Mappings, TheLaterHidesTheEarlierAndRamHidesBoth) {
  const auto first = reserve(kPageSize), second = reserve(kPageSize);
  memory_->map({0x8000'0000}, first);
  memory_->map({0x8000'0000}, second);
  EXPECT_EQ(memory_->span({0x8000'0000}, 1).data(), second.data());
  memory_->unmap({0x8000'0000}, second);
  EXPECT_EQ(memory_->span({0x8000'0000}, 1).data(), first.data());
  memory_->map({0x1000}, second);
  EXPECT_EQ(memory_->span({0x1000}, 1).data(), memory_->file_bytes(0x1000, 1).data());
}

TEST_F(Mappings, TheHoleInRamsFileCanBeShown) {
  const auto hidden = memory_->file_bytes(kRam, kPageSize);
  memory_->map({kRam}, hidden);
  const std::array text = {std::byte{1}, std::byte{2}};
  ASSERT_TRUE(memory_->write({kRam}, text));
  EXPECT_EQ(std::memcmp(hidden.data(), text.data(), text.size()), 0);
}

TEST_F(Mappings, ListenersHearOfEachChange) {
  Counter counter;
  memory_->add_listener(counter);
  const auto bytes = reserve(kPageSize);
  memory_->map({0x8000'0000}, bytes);
  memory_->unmap({0x9000'0000}, bytes);  // is not there
  EXPECT_EQ(counter.count, 1);
  memory_->unmap({0x8000'0000}, bytes);
  EXPECT_EQ(counter.count, 2);
  memory_->remove_listener(counter);
  memory_->map({0x8000'0000}, bytes);
  EXPECT_EQ(counter.count, 2);
}

}  // namespace
}  // namespace limen::memory
