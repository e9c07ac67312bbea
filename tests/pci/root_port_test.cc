#include "pci/root_port.h"

#include <gmock/gmock.h>

#include "pci/q35_host_bridge.h"
#include "pci_fixture.h"

namespace limen::pci {
namespace {

using testing::HasSubstr;

constexpr uint16_t kSlotControl = 0x18, kSlotStatus = 0x1A, kSlotCapabilities = 0x14,
                   kLinkStatus = 0x12;
constexpr uint16_t kButton = 1, kPresenceChanged = 1 << 3, kPresence = 1 << 6,
                   kLinkChanged = 1 << 8, kLinkActive = 1 << 13;
constexpr uint32_t kAllEvents = 1 | 1 << 3 | 1 << 5 | 1 << 12;  // and their interrupt
constexpr uint32_t kIndicatorOn = 1 << 8, kIndicatorOff = 3 << 8, kPowerOff = 1 << 10;

class RootPortTest : public PciTest {
 protected:
  RootPortTest() {
    EXPECT_TRUE(bus_.attach(port_, "0x3"));
    bus_.connect_interrupts(lines_);
    device_.set_bar(0, {.kind = BarKind::kMemory32, .size = 4096, .handler = &handler_});
    device_.set_interrupt_pin(1);
  }
  void start() {
    port_.reset();
    ResourceWindow memory = {0xC000'0000, 0x1000'0000};
    ResourceWindow io = {0xC000, 0x2000};
    ASSERT_TRUE(assign_root_ports(bus_, memory, io));
    EXPECT_EQ(io.size, port_.wants_ports() ? 0x1000u : 0x2000u);
    ASSERT_TRUE(assign_resources(bus_, memory, io));
    EXPECT_EQ(memory.size, 0x1000'0000u - (2 << 20));
    // The driver: MSI-X vector 0 is message 7.
    const uint64_t table = *port_.bar_mapping(0);
    mmio_.write(table, 4, 0xFEE0'0000);
    mmio_.write(table + 8, 4, 7);
    mmio_.write(table + 12, 4, 0);
    port_.config_write(reg::kCommand, 2, command::kMemory | command::kBusMaster);
    const uint16_t msix = capability(0x11);
    port_.config_write(static_cast<uint16_t>(msix + 2), 2, 0x8000);
    express_ = capability(0x10);
  }
  uint16_t capability(uint8_t id) {
    auto at = static_cast<uint16_t>(port_.config_read(reg::kCapabilities, 1));
    while (at != 0 && port_.config_read(at, 1) != id)
      at = static_cast<uint16_t>(port_.config_read(static_cast<uint16_t>(at + 1), 1));
    return at;
  }
  uint16_t express(uint16_t field) {
    return static_cast<uint16_t>(port_.config_read(static_cast<uint16_t>(express_ + field), 2));
  }
  void set_express(uint16_t field, uint32_t value, unsigned size = 2) {
    port_.config_write(static_cast<uint16_t>(express_ + field), size, value);
  }

  RootPort port_{{.name = "rp1", .port = 2, .chassis = 1, .slot = 5},
                 {.ports = &ports_, .mmio = &mmio_, .msi = &msi_}};
  TestFunction device_{"card"};
  EchoHandler handler_;
  uint16_t express_ = 0;
};

TEST_F(RootPortTest, IsABridgeWithASlot) {
  start();
  EXPECT_EQ(port_.config_read(reg::kHeaderType, 1), 1u);
  EXPECT_EQ(port_.config_read(reg::kVendorId, 4), 0x000C'1B36u);
  EXPECT_EQ(port_.config_read(0x0A, 2), 0x0604u);
  EXPECT_EQ(express(2), 0x0142) << "version 2, root port, slot";
  EXPECT_EQ(port_.config_read(static_cast<uint16_t>(express_ + kSlotCapabilities), 4) >> 19, 5u);
  EXPECT_EQ(port_.config_read(0x18, 4), 0x0001'0100u) << "buses 0, 1, 1";
  // Windows: memory of 2 MiB, no I/O, nothing prefetchable.
  EXPECT_EQ(port_.config_read(0x20, 4), 0xCFF0'CFE0u);
  EXPECT_GT(port_.config_read(0x1C, 1) & 0xF0, port_.config_read(0x1D, 1) & 0xF0);
  EXPECT_GT(port_.config_read(0x24, 2) & 0xFFF0, port_.config_read(0x26, 2) & 0xFFF0);
}

TEST_F(RootPortTest, DeviceBehindItIsOnItsBus) {
  ASSERT_TRUE(port_.secondary().attach(device_));
  start();
  EXPECT_EQ(express(kSlotStatus), kPresence);
  EXPECT_NE(express(kLinkStatus) & kLinkActive, 0);
  Q35HostBridge bridge(bus_, ports_, mmio_, nullptr);
  EXPECT_EQ(mmio_.read(0xB000'0000 + (1 << 20), 4), 0x5678'1234u);
  EXPECT_EQ(mmio_.read(0xB000'0000 + (1 << 20) + (1 << 15), 4), 0xFFFF'FFFFu);
  EXPECT_EQ(mmio_.read(0xB000'0000 + (2 << 20), 4), 0xFFFF'FFFFu);
  ports_.write(0xCF8, 4, 0x8001'0000);
  EXPECT_EQ(ports_.read(0xCFC, 4), 0x5678'1234u);
  ports_.write(0xCF8, 4, 0x8002'0000);
  EXPECT_EQ(ports_.read(0xCFC, 4), 0xFFFF'FFFFu);
  // Its BAR is in the window.
  EXPECT_EQ(device_.bar_mapping(0), 0xCFE0'0000u);
  EXPECT_EQ(mmio_.read(0xCFE0'0010, 4), 0x10u);
  // The guest gives the bus another number.
  port_.config_write(0x18, 4, 0x0009'0900);
  EXPECT_EQ(mmio_.read(0xB000'0000 + (1 << 20), 4), 0xFFFF'FFFFu);
  EXPECT_EQ(mmio_.read(0xB000'0000 + (9 << 20), 4), 0x5678'1234u);
}

TEST_F(RootPortTest, InterruptComesAsThePortsOwn) {
  ASSERT_TRUE(port_.secondary().attach(device_));
  start();
  device_.set_intx(true);
  EXPECT_TRUE(lines_.levels[3 * 4]);
  device_.set_intx(false);
  EXPECT_FALSE(lines_.levels[3 * 4]);
}

TEST_F(RootPortTest, HasOneSlot) {
  TestFunction other("other");
  const auto refused = port_.secondary().attach(device_, "0x1");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("only allows plugging into slot 0"));
  ASSERT_TRUE(port_.secondary().attach(device_));
  EXPECT_FALSE(port_.secondary().attach(other));
}

TEST_F(RootPortTest, PluggingTellsTheGuest) {
  start();
  EXPECT_EQ(express(kSlotStatus), 0);
  EXPECT_EQ(express(kSlotControl), kIndicatorOff | kPowerOff);
  set_express(kSlotControl, kAllEvents | kIndicatorOff | kPowerOff);
  ASSERT_TRUE(port_.secondary().attach(device_));
  port_.plugged();
  EXPECT_EQ(express(kSlotStatus), kPresence | kPresenceChanged | kLinkChanged);
  ASSERT_EQ(msi_.messages.size(), 1u);
  EXPECT_EQ(msi_.messages[0].data, 7u);
  // Ones take events away, and nothing else.
  set_express(kSlotStatus, kPresenceChanged | kPresence);
  EXPECT_EQ(express(kSlotStatus), kPresence | kLinkChanged);
  set_express(kSlotStatus, kLinkChanged);
  EXPECT_EQ(express(kSlotStatus), kPresence);
  // Power on: the link comes up.
  EXPECT_EQ(express(kLinkStatus) & kLinkActive, 0);
  set_express(kSlotControl, kAllEvents | kIndicatorOn);
  EXPECT_NE(express(kLinkStatus) & kLinkActive, 0);
  EXPECT_EQ(msi_.messages.size(), 1u);
}

TEST_F(RootPortTest, EventsWaitUntilTheGuestWantsThem) {
  start();
  ASSERT_TRUE(port_.secondary().attach(device_));
  port_.plugged();
  EXPECT_TRUE(msi_.messages.empty());
  set_express(kSlotControl, kAllEvents);
  EXPECT_EQ(msi_.messages.size(), 1u);
}

TEST_F(RootPortTest, UnpluggingTakesTheGuestsConsent) {
  ASSERT_TRUE(port_.secondary().attach(device_));
  start();
  int powered_off = 0;
  port_.set_power_off_listener([&] { ++powered_off; });
  set_express(kSlotControl, kAllEvents | kIndicatorOn);
  EXPECT_TRUE(port_.request_unplug());
  EXPECT_EQ(express(kSlotStatus), kPresence | kButton);
  EXPECT_EQ(msi_.messages.size(), 1u);
  set_express(kSlotStatus, kButton);
  set_express(kSlotControl, kAllEvents | kIndicatorOn | kPowerOff);
  EXPECT_EQ(powered_off, 0) << "the indicator is on yet";
  set_express(kSlotControl, kAllEvents | kIndicatorOff | kPowerOff);
  EXPECT_EQ(powered_off, 1);
  port_.secondary().detach(device_);
  EXPECT_FALSE(device_.bar_mapping(0).has_value());
  port_.unplugged();
  EXPECT_EQ(express(kSlotStatus), kPresenceChanged | kLinkChanged);
  EXPECT_EQ(msi_.messages.size(), 2u);
  EXPECT_FALSE(port_.request_unplug()) << "the slot is empty";
  set_express(kSlotControl, kAllEvents | kIndicatorOn);
  set_express(kSlotControl, kAllEvents | kIndicatorOff | kPowerOff);
  EXPECT_EQ(powered_off, 1);
}

TEST_F(RootPortTest, NoRoomForItsWindowIsAnError) {
  ResourceWindow memory = {0xC000'0000, 1 << 20};
  ResourceWindow io = {0xC000, 0x1000};
  const auto refused = assign_root_ports(bus_, memory, io);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("rp1"));
}

TEST_F(RootPortTest, PassesPortsOnToWhatWantsThem) {
  device_.set_bar(1, {.kind = BarKind::kIo, .size = 64, .handler = &handler_});
  ASSERT_TRUE(port_.secondary().attach(device_, "0x0"));
  start();
  EXPECT_EQ(device_.bar_mapping(1), 0xD000u);
  EXPECT_EQ(port_.config_read(0x1C, 2), 0xD1D1u);
  port_.secondary().detach(device_);
}

}  // namespace
}  // namespace limen::pci
