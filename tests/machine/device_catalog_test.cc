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
            "'isa-debug-exti' is not a valid device model name; did you mean 'isa-debug-exit'?");
  EXPECT_EQ(error({"virtconsole", {{"chardve", "c"}}}),
            "Property 'virtconsole.chardve' not found; did you mean 'chardev'?");
  EXPECT_EQ(error({"virtio-rng-pci", {{"disable-legacy", "off"}}}),
            "Property 'virtio-rng-pci.disable-legacy' doesn't take value 'off': legacy virtio is "
            "not there; use on or auto");
  EXPECT_EQ(
      error({"isa-debugcon", {{"readback", "256"}}}),
      "Property 'isa-debugcon.readback' doesn't take value '256': out of range; valid: 0 to 255");
  EXPECT_EQ(error({"virtio-blk-pci", {{"queue-size", "2"}}}),
            "Property 'virtio-blk-pci.queue-size' doesn't take value '2': out of range; valid: 4 "
            "to 1024");
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
