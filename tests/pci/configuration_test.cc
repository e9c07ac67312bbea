#include "pci_fixture.h"

namespace limen::pci {
namespace {

using Configuration = PciTest;

TEST_F(Configuration, HeaderShowsTheIdentity) {
  TestFunction function;
  EXPECT_EQ(function.config_read(0x00, 4), 0x5678'1234u);
  EXPECT_EQ(function.config_read(0x08, 4), 0x0200'AB09u);
  EXPECT_EQ(function.config_read(0x2C, 4), 0x2222'1111u);
  EXPECT_EQ(function.config_read(0x0B, 1), 0x02u);
}

TEST_F(Configuration, ReadOnlyRegistersIgnoreWrites) {
  TestFunction function;
  function.config_write(0x00, 4, 0xFFFF'FFFF);
  function.config_write(0x08, 4, 0xFFFF'FFFF);
  EXPECT_EQ(function.config_read(0x00, 4), 0x5678'1234u);
  EXPECT_EQ(function.config_read(0x08, 4), 0x0200'AB09u);
}

TEST_F(Configuration, CommandKeepsOnlyItsWritableBits) {
  TestFunction function;
  function.config_write(reg::kCommand, 2, 0xFFFF);
  EXPECT_EQ(function.config_read(reg::kCommand, 2), 0x0547u);
}

TEST_F(Configuration, AccessesBeyondTheSpaceReadAsOnesAndAreIgnored) {
  TestFunction function;
  EXPECT_EQ(function.config_read(256, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(function.config_read(254, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(function.config_read(0, 3), 0xFFFF'FFFFu);
  function.config_write(254, 4, 0);
  function.config_write(0xFFFF, 4, 0);
  EXPECT_EQ(function.config_read(0x00, 4), 0x5678'1234u);
}

TEST_F(Configuration, CapabilitiesFormAList) {
  TestFunction function;
  EXPECT_EQ(function.config_read(reg::kStatus, 2) & 0x10, 0u);
  const uint16_t first = function.add_capability(0x09, 17);
  const uint16_t second = function.add_capability(0x05, 8);
  EXPECT_EQ(function.config_read(reg::kStatus, 2) & 0x10, 0x10u);
  EXPECT_EQ(function.config_read(reg::kCapabilities, 1), first);
  EXPECT_EQ(function.config_read(first, 2), 0x09u | uint32_t{second} << 8);
  EXPECT_EQ(function.config_read(second, 2), 0x05u);
  EXPECT_GE(second, first + 20);
}

TEST_F(Configuration, SizingAMemoryBarTellsItsSizeAndKind) {
  TestFunction function;
  EchoHandler handler;
  function.set_bar(0, {.kind = BarKind::kMemory32, .size = 0x2000, .handler = &handler});
  function.set_bar(
      2,
      {.kind = BarKind::kMemory64, .prefetchable = true, .size = 1ull << 33, .handler = &handler});
  function.set_bar(4, {.kind = BarKind::kIo, .size = 0x20, .handler = &handler});
  for (uint16_t at = 0x10; at < 0x28; at = static_cast<uint16_t>(at + 4))
    function.config_write(at, 4, 0xFFFF'FFFF);
  EXPECT_EQ(function.config_read(0x10, 4), 0xFFFF'E000u);
  EXPECT_EQ(function.config_read(0x14, 4), 0u) << "there is no BAR 1";
  EXPECT_EQ(function.config_read(0x18, 4), 0x0000'000Cu);
  EXPECT_EQ(function.config_read(0x1C, 4), 0xFFFF'FFFEu);
  EXPECT_EQ(function.config_read(0x20, 4), 0xFFFF'FFE1u);
}

class Bars : public PciTest {
 protected:
  Bars() {
    function_.set_bar(0, {.kind = BarKind::kMemory32, .size = 0x1000, .handler = &memory_});
    function_.set_bar(1, {.kind = BarKind::kIo, .size = 0x10, .handler = &io_});
    function_.set_bar(4, {.kind = BarKind::kMemory64, .size = 0x4000, .handler = &wide_});
    EXPECT_TRUE(bus_.attach(function_));
  }
  TestFunction function_;
  EchoHandler memory_, io_, wide_;
};

TEST_F(Bars, AreDecodedOnlyWhileTheCommandRegisterSaysSo) {
  function_.config_write(0x10, 4, 0xC000'0000);
  function_.config_write(0x14, 4, 0xC000);
  EXPECT_EQ(mmio_.read(0xC000'0004, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(ports_.read(0xC004, 1), 0xFFu);
  function_.config_write(reg::kCommand, 2, command::kMemory);
  EXPECT_EQ(mmio_.read(0xC000'0004, 4), 4u);
  EXPECT_EQ(ports_.read(0xC004, 1), 0xFFu);
  function_.config_write(reg::kCommand, 2, command::kIo);
  EXPECT_EQ(mmio_.read(0xC000'0004, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(ports_.read(0xC004, 1), 4u);
}

TEST_F(Bars, MoveWhenTheGuestWritesAnotherAddress) {
  function_.config_write(0x10, 4, 0xC000'0000);
  function_.config_write(reg::kCommand, 2, command::kMemory);
  function_.config_write(0x10, 4, 0xD000'0000);
  EXPECT_EQ(mmio_.read(0xC000'0004, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(mmio_.read(0xD000'0004, 4), 4u);
  EXPECT_EQ(function_.bar_mapping(0), 0xD000'0000u);
}

TEST_F(Bars, SixtyFourBitOnesReachAboveFourGigabytes) {
  function_.config_write(0x20, 4, 0x0000'4000);
  function_.config_write(0x24, 4, 0x12);
  function_.config_write(reg::kCommand, 2, command::kMemory);
  EXPECT_EQ(mmio_.read(0x12'0000'4008, 8), 8u);
}

TEST_F(Bars, BeingSizedWithDecodingOnAreNotDecoded) {
  function_.config_write(reg::kCommand, 2, command::kMemory | command::kIo);
  function_.config_write(0x10, 4, 0xFFFF'FFFF);
  function_.config_write(0x14, 4, 0xFFFF'FFFF);
  function_.config_write(0x20, 4, 0xFFFF'FFFF);
  function_.config_write(0x24, 4, 0xFFFF'FFFF);
  EXPECT_FALSE(function_.bar_mapping(0));
  EXPECT_FALSE(function_.bar_mapping(1));
  EXPECT_FALSE(function_.bar_mapping(4));
}

TEST_F(Bars, AreUnmappedByReset) {
  function_.config_write(0x10, 4, 0xC000'0000);
  function_.config_write(reg::kCommand, 2, command::kMemory);
  function_.reset();
  EXPECT_EQ(mmio_.read(0xC000'0004, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(function_.config_read(0x10, 4), 0u);
  EXPECT_EQ(function_.config_read(reg::kCommand, 2), 0u);
}

TEST_F(PciTest, ADestroyedFunctionLeavesNothingMapped) {
  EchoHandler handler;
  {
    TestFunction function;
    function.set_bar(0, {.kind = BarKind::kMemory32, .size = 0x1000, .handler = &handler});
    ASSERT_TRUE(bus_.attach(function));
    function.config_write(0x10, 4, 0xC000'0000);
    function.config_write(reg::kCommand, 2, command::kMemory);
    ASSERT_EQ(mmio_.read(0xC000'0004, 4), 4u);
  }
  EXPECT_EQ(mmio_.read(0xC000'0004, 4), 0xFFFF'FFFFu);
}

class Intx : public PciTest {
 protected:
  Intx() {
    function_.set_interrupt_pin(2);
    EXPECT_TRUE(bus_.attach(function_, "0x3"));
    bus_.connect_interrupts(lines_);
  }
  static constexpr unsigned kLine = 3 * 4 + 1;
  TestFunction function_;
};

TEST_F(Intx, DrivesTheLineOfItsDeviceAndPin) {
  EXPECT_EQ(function_.config_read(reg::kInterruptPin, 1), 2u);
  function_.set_intx(true);
  EXPECT_TRUE(lines_.levels[kLine]);
  EXPECT_EQ(function_.config_read(reg::kStatus, 2) & 8, 8u);
  function_.set_intx(false);
  EXPECT_FALSE(lines_.levels[kLine]);
  EXPECT_EQ(function_.config_read(reg::kStatus, 2) & 8, 0u);
}

TEST_F(Intx, IsHeldBackByTheDisableBit) {
  function_.config_write(reg::kCommand, 2, command::kInterruptDisable);
  function_.set_intx(true);
  EXPECT_FALSE(lines_.levels[kLine]);
  EXPECT_EQ(function_.config_read(reg::kStatus, 2) & 8, 8u) << "pending all the same";
  function_.config_write(reg::kCommand, 2, 0);
  EXPECT_TRUE(lines_.levels[kLine]);
}

TEST_F(Intx, IsSentOncePerChange) {
  function_.set_intx(true);
  function_.set_intx(true);
  EXPECT_EQ(lines_.changes.size(), 1u);
}

TEST_F(Intx, FallsOnReset) {
  function_.set_intx(true);
  function_.reset();
  EXPECT_FALSE(lines_.levels[kLine]);
}

}  // namespace
}  // namespace limen::pci
