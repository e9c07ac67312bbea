#include "base/size_text.h"

#include <gtest/gtest.h>

namespace limen {
namespace {

TEST(ParseSize, TakesSuffixesFractionsAndTheDefaultUnit) {
  constexpr uint64_t kMiB = 1 << 20;
  EXPECT_EQ(parse_size("512", kMiB).value(), 512 * kMiB);
  EXPECT_EQ(parse_size("1G", kMiB).value(), 1024 * kMiB);
  EXPECT_EQ(parse_size("1.5g", kMiB).value(), 1536 * kMiB);
  EXPECT_EQ(parse_size("4096K", kMiB).value(), 4 * kMiB);
  EXPECT_EQ(parse_size("100b", kMiB).value(), 100u);
  EXPECT_EQ(parse_size("0", kMiB).value(), 0u);
}

TEST(ParseSize, RefusesWhatIsNotASize) {
  for (const auto* text : {"", "G", "x", "-1", "1GG", "1.M", ".5G", "1.5.5G", "1 G", "0x10"})
    EXPECT_FALSE(parse_size(text, 1)) << text;
  EXPECT_EQ(parse_size("16E", 1).error().message, "'16E' is too large a size");
  EXPECT_EQ(parse_size("99999999999999999999", 1).error().message,
            "'99999999999999999999' is too large a size");
}

}  // namespace
}  // namespace limen
