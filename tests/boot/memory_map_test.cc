#include "boot/memory_map.h"

#include <gtest/gtest.h>

#include "boot/kernel_images.h"
#include "boot/placement.h"

namespace limen::boot {
namespace {

TEST(MemoryMap, RamAboveTheLowLimitGoesOnAtFourGibibytes) {
  const auto layout = ram_layout(uint64_t{5} << 30).value();
  ASSERT_EQ(layout.size(), 2u);
  EXPECT_EQ(layout[0].start.value, 0u);
  EXPECT_EQ(layout[0].size, kLowRamLimit);
  EXPECT_EQ(layout[1].start.value, kHighRamStart);
  EXPECT_EQ(layout[1].size, (uint64_t{5} << 30) - kLowRamLimit);
  EXPECT_EQ(ram_layout(kLowRamLimit).value().size(), 1u);
}

TEST(MemoryMap, RefusesTooLittleAndPartsOfPages) {
  EXPECT_NE(ram_layout(0).error().message.find("memory of 0 bytes"), std::string::npos);
  EXPECT_FALSE(ram_layout(kMinimumMemory - 4096));
  EXPECT_TRUE(ram_layout(kMinimumMemory));
  EXPECT_NE(ram_layout(kMinimumMemory + 1).error().message.find("not a multiple of 4096"),
            std::string::npos);
  EXPECT_FALSE(ram_layout(UINT64_MAX & ~uint64_t{4095}));
}

TEST(MemoryMap, IsSortedWithoutOverlapsAndCoversAllRam) {
  for (const uint64_t size : {kMinimumMemory, 64 * kMebibyte, uint64_t{6} << 30}) {
    const auto memory = make_memory(size);
    uint64_t previous_end = 0, ram = 0;
    for (const auto& entry : e820_map(*memory)) {
      EXPECT_GE(entry.start.value, previous_end);
      EXPECT_GT(entry.size, 0u);
      previous_end = entry.start.value + entry.size;
      if (!memory->span(entry.start, entry.size).empty()) ram += entry.size;
    }
    EXPECT_EQ(ram, size);
  }
}

TEST(Placement, GivesLowestAndHighestFreeRangesAndNeverTheSameTwice) {
  const auto memory = make_memory(16 * kMebibyte);
  Placement placement(*memory, e820_map(*memory));
  EXPECT_EQ(placement.take_lowest(100, 16, 0, kHighRamStart), 0x1000u);
  EXPECT_EQ(placement.take_lowest(100, 16, 0, kHighRamStart), 0x1070u);
  EXPECT_EQ(placement.take_highest(5000, 4096, kBiosAreaEnd, kHighRamStart),
            acpi_region(*memory).value - 8192);
  EXPECT_FALSE(placement.take(kConventionalEnd - 8, 16));
  EXPECT_FALSE(placement.take(0, 16));
  EXPECT_FALSE(placement.take(UINT64_MAX - 8, 16));
  EXPECT_TRUE(placement.take(kBiosAreaEnd, kMebibyte));
  EXPECT_FALSE(placement.take(kBiosAreaEnd + 4096, 16));
  EXPECT_EQ(placement.take_lowest(64, 16, kBiosAreaEnd, kHighRamStart), 2 * kMebibyte);
  EXPECT_FALSE(placement.take_lowest(32 * kMebibyte, 16, 0, kHighRamStart));
  EXPECT_FALSE(placement.take_highest(UINT64_MAX, 4096, 0, kHighRamStart));
}

}  // namespace
}  // namespace limen::boot
