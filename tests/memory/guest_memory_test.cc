#include "memory/guest_memory.h"

#include <gtest/gtest.h>

#include <array>

namespace limen::memory {
namespace {

constexpr uint64_t kPagesPerHuge = kHugePageSize / kPageSize;

TEST(GuestMemory, FindsAHugePageWorthWhileOnce) {
  const std::array layout = {GuestMemory::Layout{{0}, 2 * kHugePageSize}};
  const auto memory = GuestMemory::create(layout);
  ASSERT_TRUE(memory.has_value());
  unsigned told = 0;
  for (unsigned i = 0; i < 1000; ++i) told += (*memory)->note_lookup(i % 3) ? 1 : 0;
  EXPECT_EQ(told, 1u);
  EXPECT_FALSE((*memory)->note_lookup(kPagesPerHuge)) << "the other half is not yet";
}

TEST(GuestMemory, AsksForNoHugePageThatIsNotAllRam) {
  const std::array layout = {GuestMemory::Layout{{0}, kHugePageSize + kPageSize}};
  const auto memory = GuestMemory::create(layout);
  ASSERT_TRUE(memory.has_value());
  for (unsigned i = 0; i < 1000; ++i) ASSERT_FALSE((*memory)->note_lookup(kPagesPerHuge));
}

}  // namespace
}  // namespace limen::memory
