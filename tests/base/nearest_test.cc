#include "base/nearest.h"

#include <gtest/gtest.h>

#include <array>

namespace limen {
namespace {

constexpr std::array<std::string_view, 3> kDevices = {"virtio-blk-pci", "virtio-rng-pci",
                                                      "isa-debug-exit"};

TEST(NearestChoice, FindsASlipOfTheHand) {
  EXPECT_EQ(nearest_choice("virtio-blk-pic", kDevices), "virtio-blk-pci");
  EXPECT_EQ(nearest_choice("isa-debug-exti", kDevices), "isa-debug-exit");
  EXPECT_EQ(nearest_choice("VIRTIO-RNG-PCI", kDevices), "virtio-rng-pci");
}

TEST(NearestChoice, FindsTheBeginningOfALongerName) {
  EXPECT_EQ(nearest_choice("virtio-blk", kDevices), "virtio-blk-pci");
}

TEST(NearestChoice, FindsNothingWhereNothingIsNear) {
  EXPECT_EQ(nearest_choice("e1000", kDevices), std::nullopt);
  EXPECT_EQ(nearest_choice("", kDevices), std::nullopt);
}

TEST(ChoiceHint, ListsAFewChoicesWhenNoneIsNear) {
  EXPECT_EQ(choice_hint("virtio-blk-pic", kDevices), "; did you mean 'virtio-blk-pci'?");
  EXPECT_EQ(choice_hint("e1000", kDevices),
            "; valid choices: virtio-blk-pci, virtio-rng-pci, isa-debug-exit");
  EXPECT_EQ(choice_hint("e1000", {}), "");
}

}  // namespace
}  // namespace limen
