#include "device/pvpanic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace limen::device {
namespace {

TEST(Pvpanic, TellsWhatTheGuestSays) {
  memory::IoSpace ports("ports");
  std::vector<PanicEvent> events;
  {
    const IsaPvpanic device(ports, 0x505, 3, [&](PanicEvent event) { events.push_back(event); });
    EXPECT_EQ(ports.read(0x505, 1), 3u);
    for (const uint64_t value : {0, 1, 2, 3, 4, 0xFC}) ports.write(0x505, 1, value);
    EXPECT_THAT(events, ::testing::ElementsAre(PanicEvent::kPanicked, PanicEvent::kCrashLoaded,
                                               PanicEvent::kCrashLoaded));
  }
  EXPECT_EQ(ports.read(0x505, 1), 0xFFu) << "it is gone";
}

TEST(Pvpanic, TellsOnlyWhatItMay) {
  memory::IoSpace ports("ports");
  std::vector<PanicEvent> events;
  const IsaPvpanic device(ports, 0x600, 1, [&](PanicEvent event) { events.push_back(event); });
  EXPECT_EQ(ports.read(0x600, 1), 1u);
  ports.write(0x600, 1, 2);
  ports.write(0x600, 1, 3);
  EXPECT_THAT(events, ::testing::ElementsAre(PanicEvent::kPanicked));
}

}  // namespace
}  // namespace limen::device
