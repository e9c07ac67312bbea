#include "qemu/key_values.h"

#include <gtest/gtest.h>

#include <array>

namespace limen::qemu {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs parse(std::string_view text, std::string_view implied = "") {
  return KeyValues::parse(text, implied).value().pairs();
}

TEST(KeyValues, FirstPartTakesTheImpliedKey) {
  EXPECT_EQ(parse("virtio-blk-pci,drive=d0", "driver"),
            (Pairs{{"driver", "virtio-blk-pci"}, {"drive", "d0"}}));
  EXPECT_EQ(parse("driver=x,drive=d0", "driver"), (Pairs{{"driver", "x"}, {"drive", "d0"}}));
}

TEST(KeyValues, DoubledCommaIsPartOfAValue) {
  EXPECT_EQ(parse("file=a,,b.img,if=none"), (Pairs{{"file", "a,b.img"}, {"if", "none"}}));
}

TEST(KeyValues, PartWithoutEqualsIsOn) {
  EXPECT_EQ(parse("file=a,readonly"), (Pairs{{"file", "a"}, {"readonly", "on"}}));
}

TEST(KeyValues, ValueMayHoldEqualsSigns) {
  EXPECT_EQ(parse("serial=a=b"), (Pairs{{"serial", "a=b"}}));
}

TEST(KeyValues, RefusesEmptyPartsAndKeys) {
  EXPECT_FALSE(KeyValues::parse("file=a,", ""));
  EXPECT_FALSE(KeyValues::parse(",file=a", ""));
  EXPECT_EQ(KeyValues::parse("=a", "").error().message, "'=a' has no key before '='");
}

TEST(KeyValues, CheckNamesTheUnknownKeyAndTheNearest) {
  constexpr std::array<std::string_view, 2> kKnown = {"file", "readonly"};
  const auto values = KeyValues::parse("file=a,readolny=on", "").value();
  EXPECT_EQ(values.check(kKnown).error().message,
            "Invalid parameter 'readolny'; did you mean 'readonly'?");
  EXPECT_EQ(KeyValues::parse("file=a,file=b", "").value().check(kKnown).error().message,
            "property 'file' is given twice");
}

}  // namespace
}  // namespace limen::qemu
