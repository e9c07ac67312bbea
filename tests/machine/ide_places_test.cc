#include "machine/ide_places.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace limen::machine {
namespace {

DriveDescription ide(std::optional<unsigned> index = {}, std::optional<unsigned> bus = {},
                     std::optional<unsigned> unit = {}) {
  DriveDescription drive;
  drive.interface = "ide";
  drive.index = index;
  drive.bus = bus;
  drive.unit = unit;
  return drive;
}

std::vector<std::pair<unsigned, unsigned>> places(const MachineDescription& description) {
  std::vector<std::pair<unsigned, unsigned>> places;
  const auto placed = place_ide_drives(description).value();
  for (const auto& drive : placed)
    if (drive.interface == "ide") places.emplace_back(*drive.bus, *drive.unit);
  return places;
}

TEST(IdePlaces, CountUnitsOfABusFirst) {
  MachineDescription description;
  description.type = "pc";
  description.drives = {ide(2), {}, ide(), ide(), ide()};
  EXPECT_THAT(places(description), ::testing::ElementsAre(std::pair(1, 0), std::pair(0, 0),
                                                          std::pair(0, 1), std::pair(1, 1)));
  description.type = "q35";
  EXPECT_THAT(places(description), ::testing::ElementsAre(std::pair(2, 0), std::pair(0, 0),
                                                          std::pair(1, 0), std::pair(3, 0)));
}

TEST(IdePlaces, RefusesWhatIsTakenOrNotThere) {
  MachineDescription description;
  description.type = "pc";
  description.drives = {ide(1), ide({}, 0, 1)};
  EXPECT_EQ(place_ide_drives(description).error().message,
            "drive with bus=0, unit=1 (index=1) exists");
  description.drives = {ide(4)};
  EXPECT_EQ(place_ide_drives(description).error().message,
            "machine type does not support if=ide,bus=2,unit=0");
  description.type = "q35";
  description.drives = {ide({}, 0, 1)};
  EXPECT_EQ(place_ide_drives(description).error().message,
            "machine type does not support if=ide,bus=0,unit=1");
  description.type = "none";
  description.drives = {ide()};
  EXPECT_FALSE(place_ide_drives(description).has_value());
}

}  // namespace
}  // namespace limen::machine
