#include "machine/device_catalog.h"

#include <gtest/gtest.h>

namespace limen::machine {
namespace {

std::string error(const DeviceDescription& device) {
  const auto checked = check_device(device);
  return checked ? "no error" : checked.error().message;
}

TEST(DeviceCatalog, TakesWhatItLists) {
  EXPECT_TRUE(check_device(
      {"virtio-blk-pci", {{"drive", "d"}, {"num-queues", "0x4"}, {"write-cache", "off"}}}));
  EXPECT_TRUE(check_device({"pc-testdev", {}}));
}

TEST(DeviceCatalog, ErrorsNameTheNearestChoice) {
  EXPECT_EQ(error({"isa-debug-exti", {}}),
            "unknown device 'isa-debug-exti'; did you mean 'isa-debug-exit'?");
  EXPECT_EQ(error({"virtconsole", {{"chardve", "c"}}}),
            "virtconsole has no property 'chardve'; did you mean 'chardev'?");
  EXPECT_EQ(
      error({"virtio-rng-pci", {{"disable-legacy", "off"}}}),
      "virtio-rng-pci property disable-legacy=off: legacy virtio is not there; use on or auto");
  EXPECT_EQ(error({"isa-debugcon", {{"readback", "256"}}}),
            "isa-debugcon property readback=256: out of range; valid: 0 to 255");
  EXPECT_EQ(error({"virtio-blk-pci", {{"queue-size", "2"}}}),
            "virtio-blk-pci property queue-size=2: out of range; valid: 4 to 1024");
}

TEST(DeviceCatalog, NumbersAreDecimalHexadecimalOrOctal) {
  EXPECT_EQ(parse_number("12").value(), 12u);
  EXPECT_EQ(parse_number("0xF4").value(), 0xF4u);
  EXPECT_EQ(parse_number("010").value(), 8u);
  for (const auto* text : {"", "x", "1x", "-1", "0x", "99999999999999999999"})
    EXPECT_FALSE(parse_number(text)) << text;
}

TEST(DeviceCatalog, PropertiesHaveTypesAndDefaults) {
  const DeviceDescription device{"virtio-blk-pci", {{"num-queues", "4"}, {"discard", "off"}}};
  const DeviceProperties properties(device);
  EXPECT_EQ(properties.number("num-queues", 1), 4u);
  EXPECT_EQ(properties.number("queue-size", 256), 256u);
  EXPECT_FALSE(properties.boolean("discard", true));
  EXPECT_EQ(properties.text("serial", "none"), "none");
}

}  // namespace
}  // namespace limen::machine
