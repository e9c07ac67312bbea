#include <atomic>
#include <thread>

#include "pci/ich_lpc.h"
#include "pci/q35_host_bridge.h"
#include "pci_fixture.h"

namespace limen::pci {
namespace {

constexpr uint64_t kEcam = Q35HostBridge::kEcamDefaultBase;

class Q35 : public PciTest {
 protected:
  Q35() {
    EXPECT_TRUE(bus_.attach(bridge_, "0x0"));
    EXPECT_TRUE(bus_.attach(lpc_, "0x1f"));
    bus_.connect_interrupts(lpc_);
  }
  uint64_t port_read(uint32_t address, unsigned offset, unsigned size) {
    ports_.write(0xCF8, 4, address);
    return ports_.read(0xCFC + offset, size);
  }
  static constexpr uint32_t config_address(unsigned device, unsigned reg) {
    return 0x8000'0000 | device << 11 | reg;
  }
  uint64_t lpc_register(unsigned reg) { return kEcam + (0x1F << 15) + reg; }

  EchoHandler reset_control_, pm_;
  RecordingLines gsi_;
  Q35HostBridge bridge_{bus_, ports_, mmio_, &reset_control_};
  IchLpc lpc_{gsi_, ports_, &pm_};
};

TEST_F(Q35, PortsReachEveryRegisterInEveryWidth) {
  EXPECT_EQ(port_read(config_address(0, 0), 0, 4), 0x29C0'8086u);
  EXPECT_EQ(port_read(config_address(0, 0), 2, 2), 0x29C0u);
  EXPECT_EQ(port_read(config_address(0, 0), 3, 1), 0x29u);
  EXPECT_EQ(port_read(config_address(31, 0), 0, 4), 0x2918'8086u);
  EXPECT_EQ(ports_.read(0xCF8, 4), config_address(31, 0));
}

TEST_F(Q35, PortsWriteToTheSelectedFunction) {
  ports_.write(0xCF8, 4, config_address(31, reg::kInterruptLine));
  ports_.write(0xCFC, 1, 0x5A);
  EXPECT_EQ(lpc_.config_read(reg::kInterruptLine, 1), 0x5Au);
}

TEST_F(Q35, PortsAreDeafWhileTheEnableBitIsClear) { EXPECT_EQ(port_read(0, 0, 4), 0xFFFF'FFFFu); }

TEST_F(Q35, OtherBusesAndEmptySlotsReadAsOnes) {
  EXPECT_EQ(port_read(0x8001'0000, 0, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(port_read(config_address(5, 0), 0, 2), 0xFFFFu);
}

TEST_F(Q35, NarrowAccessesToTheAddressPortAreNotConfiguration) {
  ports_.write(0xCF8, 4, config_address(0, 0));
  ports_.write(0xCF8, 1, 0x55);
  ports_.write(0xCFA, 2, 0x55);
  EXPECT_EQ(ports_.read(0xCF8, 4), config_address(0, 0));
  EXPECT_EQ(ports_.read(0xCF8, 2), 0xFFFFu);
}

TEST_F(Q35, TheResetPortLiesWithinTheAddressPort) {
  ports_.write(0xCF9, 1, 6);
  EXPECT_EQ(reset_control_.written_value, 6u);
  EXPECT_EQ(reset_control_.written_offset, 0u);
  EXPECT_EQ(ports_.read(0xCF9, 1), 0u);
}

TEST_F(Q35, EcamReachesTheSameRegisters) {
  EXPECT_EQ(mmio_.read(kEcam, 4), 0x29C0'8086u);
  EXPECT_EQ(mmio_.read(lpc_register(8), 8), 0x0601'0002u);
  EXPECT_EQ(mmio_.read(kEcam + 0x100, 4), 0xFFFF'FFFFu) << "no extended configuration space";
  EXPECT_EQ(mmio_.read(kEcam + (1 << 20), 4), 0xFFFF'FFFFu) << "no bus 1";
  mmio_.write(lpc_register(reg::kInterruptLine), 1, 7);
  EXPECT_EQ(lpc_.config_read(reg::kInterruptLine, 1), 7u);
}

TEST_F(Q35, EcamFollowsItsBaseRegister) {
  bridge_.config_write(0x60, 4, 0xE000'0001);
  EXPECT_EQ(mmio_.read(kEcam, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(mmio_.read(0xE000'0000, 4), 0x29C0'8086u);
  bridge_.config_write(0x60, 4, 0xE000'0000);
  EXPECT_EQ(mmio_.read(0xE000'0000, 4), 0xFFFF'FFFFu);
  bridge_.reset();
  EXPECT_EQ(mmio_.read(kEcam, 4), 0x29C0'8086u);
}

TEST_F(Q35, PowerManagementPortsFollowTheirBaseRegister) {
  EXPECT_EQ(lpc_.config_read(0x40, 4), 0x601u);
  EXPECT_EQ(ports_.read(0x608, 4), 8u);
  lpc_.config_write(0x40, 4, 0xB000);
  EXPECT_EQ(ports_.read(0x608, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(ports_.read(0xB008, 4), 8u);
  lpc_.config_write(0x44, 1, 0);
  EXPECT_EQ(ports_.read(0xB008, 4), 0xFFFF'FFFFu);
  lpc_.reset();
  EXPECT_EQ(ports_.read(0x608, 4), 8u);
}

TEST(InterruptRouting, IsWhatTheAcpiTableMustSay) {
  EXPECT_EQ(intx_gsi(0, 0), 20u);
  EXPECT_EQ(intx_gsi(1, 0), 21u);
  EXPECT_EQ(intx_gsi(3, 1), 20u);
  EXPECT_EQ(intx_gsi(24, 3), 23u);
  EXPECT_EQ(intx_gsi(25, 0), 16u);
  EXPECT_EQ(intx_gsi(29, 3), 19u);
  EXPECT_EQ(intx_gsi(30, 1), 21u);
  EXPECT_EQ(intx_gsi(31, 1), 17u);
}

class Routing : public Q35 {
 protected:
  Routing() {
    for (TestFunction* function : {&a_, &b_}) function->set_interrupt_pin(1);
    EXPECT_TRUE(bus_.attach(a_, "0x1"));
    EXPECT_TRUE(bus_.attach(b_, "0x5"));  // shares PIRQ F with device 1
  }
  TestFunction a_, b_;
};

TEST_F(Routing, SharedLineStaysHighUntilBothDevicesLetGo) {
  a_.set_intx(true);
  EXPECT_TRUE(gsi_.levels[21]);
  b_.set_intx(true);
  a_.set_intx(false);
  EXPECT_TRUE(gsi_.levels[21]);
  b_.set_intx(false);
  EXPECT_FALSE(gsi_.levels[21]);
}

TEST_F(Routing, IsaInterruptFollowsTheRoutingRegister) {
  a_.set_intx(true);
  EXPECT_FALSE(gsi_.levels[11]) << "routing is off after power-on";
  lpc_.config_write(0x69, 1, 11);  // PIRQ F
  EXPECT_TRUE(gsi_.levels[11]);
  lpc_.config_write(0x69, 1, 10);
  EXPECT_FALSE(gsi_.levels[11]);
  EXPECT_TRUE(gsi_.levels[10]);
  a_.set_intx(false);
  EXPECT_FALSE(gsi_.levels[10]);
  EXPECT_FALSE(gsi_.levels[21]);
}

TEST_F(Routing, ReservedIsaInterruptsAreNeverDriven) {
  a_.set_intx(true);
  for (const uint32_t reserved : {0u, 1u, 2u, 8u, 13u}) {
    lpc_.config_write(0x69, 1, reserved);
    EXPECT_FALSE(gsi_.levels[reserved]) << reserved;
  }
}

TEST_F(Routing, ConcurrentChangesEndWithTheLatestLevel) {
  std::thread other([this] {
    for (int i = 0; i < 20'000; ++i) b_.set_intx(i % 2 == 0);
  });
  for (int i = 0; i < 20'000; ++i) a_.set_intx(i % 2 == 0);
  other.join();
  EXPECT_FALSE(gsi_.levels[21]);
  a_.set_intx(true);
  EXPECT_TRUE(gsi_.levels[21]);
}

}  // namespace
}  // namespace limen::pci
