#include <gmock/gmock.h>

#include "pci/interrupt_routing.h"
#include "pci_fixture.h"

namespace limen::pci {
namespace {

using testing::HasSubstr;
using Bus = PciTest;

TEST(PciAddressText, IsReadAsQemuReadsIt) {
  EXPECT_EQ(parse_pci_address("0x3"), (PciAddress{3, 0}));
  EXPECT_EQ(parse_pci_address("1f.7"), (PciAddress{31, 7}));
  EXPECT_EQ(parse_pci_address("0x10.0x1"), (PciAddress{16, 1}));
  for (const char* bad : {"", "0x20", "3.8", "x", "3.", ".1", "3.1.1", "-1", "0x"})
    EXPECT_FALSE(parse_pci_address(bad)) << bad;
  EXPECT_THAT(parse_pci_address("0x20").error().message, HasSubstr("'0x20'"));
}

TEST_F(Bus, GivesTheFirstFreeDeviceFromOne) {
  TestFunction a, b, c;
  EXPECT_EQ(bus_.attach(a), (PciAddress{1, 0}));
  EXPECT_EQ(bus_.attach(b, "0x2"), (PciAddress{2, 0}));
  EXPECT_EQ(bus_.attach(c), (PciAddress{3, 0}));
  EXPECT_EQ(bus_.function({2, 0}), &b);
  EXPECT_EQ(bus_.functions(), (std::vector<PciFunction*>{&a, &b, &c}));
}

TEST_F(Bus, RefusesATakenAddressAndNamesAFreeOne) {
  TestFunction a("first"), b("second");
  ASSERT_TRUE(bus_.attach(a, "0x1"));
  const auto result = bus_.attach(b, "0x1");
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("not available for second, in use by first"));
  EXPECT_THAT(result.error().message, HasSubstr("0x2"));
}

TEST_F(Bus, RefusesADeviceTooMany) {
  std::vector<std::unique_ptr<TestFunction>> functions;
  for (int i = 0; i < 31; ++i) {
    functions.push_back(std::make_unique<TestFunction>());
    ASSERT_TRUE(bus_.attach(*functions.back()));
  }
  TestFunction one_more;
  EXPECT_FALSE(bus_.attach(one_more));
}

TEST_F(Bus, MarksFunctionZeroOfADeviceWithSeveral) {
  TestFunction a, b, c;
  ASSERT_TRUE(bus_.attach(b, "0x4.0x1"));
  ASSERT_TRUE(bus_.attach(a, "0x4"));
  ASSERT_TRUE(bus_.attach(c, "0x5"));
  EXPECT_EQ(a.config_read(reg::kHeaderType, 1), 0x80u);
  EXPECT_EQ(c.config_read(reg::kHeaderType, 1), 0u);
  a.reset();
  EXPECT_EQ(a.config_read(reg::kHeaderType, 1), 0x80u);
}

TEST_F(Bus, ReadsOnesWhereNothingIs) {
  EXPECT_EQ(bus_.config_read({9, 0}, 0, 4), 0xFFFF'FFFFu);
  bus_.config_write({9, 0}, 4, 2, 7);
  EXPECT_EQ(bus_.config_read({200, 200}, 0, 4), 0xFFFF'FFFFu);
}

TEST_F(Bus, AssignResourcesGivesEveryBarAnAlignedAddressOfItsOwn) {
  TestFunction a, b;
  EchoHandler handlers[4];
  a.set_bar(0, {.kind = BarKind::kMemory32, .size = 0x1000, .handler = &handlers[0]});
  a.set_bar(2, {.kind = BarKind::kMemory64, .size = 0x10'0000, .handler = &handlers[1]});
  b.set_bar(0, {.kind = BarKind::kIo, .size = 0x40, .handler = &handlers[2]});
  b.set_bar(1, {.kind = BarKind::kMemory32, .size = 0x4000, .handler = &handlers[3]});
  b.set_interrupt_pin(1);
  ASSERT_TRUE(bus_.attach(a));
  ASSERT_TRUE(bus_.attach(b, "0x6"));
  ASSERT_TRUE(assign_resources(bus_, {0xC000'0000, 0x1000'0000}, {0xC000, 0x1000}));

  EXPECT_EQ(a.bar_mapping(2), 0xC000'0000u);
  EXPECT_EQ(b.bar_mapping(1), 0xC010'0000u);
  EXPECT_EQ(a.bar_mapping(0), 0xC010'4000u);
  EXPECT_EQ(b.bar_mapping(0), 0xC000u);
  EXPECT_EQ(a.config_read(reg::kCommand, 2), command::kMemory);
  EXPECT_EQ(b.config_read(reg::kCommand, 2), command::kMemory | command::kIo);
  EXPECT_EQ(b.config_read(reg::kInterruptLine, 1), intx_gsi(6, 0));
}

TEST_F(Bus, AssignResourcesRefusesAWindowThatIsTooSmall) {
  TestFunction function("big");
  EchoHandler handler;
  function.set_bar(0, {.kind = BarKind::kMemory32, .size = 0x2000, .handler = &handler});
  ASSERT_TRUE(bus_.attach(function));
  const auto result = assign_resources(bus_, {0xC000'0000, 0x1000}, {0xC000, 0x1000});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("BAR 0 of big"));
  EXPECT_FALSE(assign_resources(bus_, {0xC000'1000, 0x2000}, {0xC000, 0x1000}))
      << "alignment uses up the window";
}

}  // namespace
}  // namespace limen::pci
