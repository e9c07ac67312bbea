#include "device/system_control.h"

#include "device/debug_ports.h"
#include "device/pc_fixture.h"

namespace limen::device {
namespace {

class SmallPorts : public DeviceTest {};

struct Dwords final : memory::IoHandler {
  uint64_t io_read(uint64_t, unsigned size) override {
    sizes.push_back(size);
    return 0x12345678;
  }
  void io_write(uint64_t, unsigned size, uint64_t) override { sizes.push_back(size); }
  std::vector<unsigned> sizes;
};

TEST_F(SmallPorts, ResetControlResetsWhenTheCpuBitIsWritten) {
  int resets = 0;
  ResetControl control(ports_, [&] { ++resets; });
  out(0xCF9, 0x02);
  EXPECT_EQ(resets, 0);
  EXPECT_EQ(in(0xCF9), 0x02u);
  out(0xCF9, 0x06);
  EXPECT_EQ(resets, 1);
}

TEST_F(SmallPorts, ResetControlLeavesPciConfigurationAddressesWhole) {
  Dwords pci;
  ports_.claim(0xCF8, 8, pci, "PCI");
  ResetControl control(ports_, [] {});
  out(0xCF8, 0x80000000, 4);
  EXPECT_EQ(in(0xCF8, 4), 0x12345678u);
  EXPECT_EQ(pci.sizes, std::vector<unsigned>({4, 4}));
  ports_.release(0xCF8, pci);
}

TEST_F(SmallPorts, PortAGatesA20AndResets) {
  int resets = 0;
  std::vector<bool> a20;
  SystemControlPortA port(
      ports_, [&] { ++resets; }, [&](bool on) { a20.push_back(on); });
  EXPECT_EQ(in(0x92), 2u);
  out(0x92, 0);
  out(0x92, 2);
  out(0x92, 2);
  EXPECT_EQ(a20, std::vector<bool>({false, true}));
  out(0x92, 3);
  EXPECT_EQ(resets, 1);
  EXPECT_EQ(in(0x92), 2u);
}

TEST_F(SmallPorts, PostCodePortKeepsTheLastCode) {
  PostCodePort post(ports_);
  out(0x80, 0x42);
  EXPECT_EQ(in(0x80), 0x42u);
}

TEST_F(SmallPorts, DebugConsoleSendsBytesAndReadsAsE9) {
  FakeBackend backend;
  DebugConsole console(ports_, DebugConsole::kDefaultPort, backend);
  out(0xE9, 'h');
  out(0xE9, 'i');
  EXPECT_EQ(backend.output, "hi");
  EXPECT_EQ(in(0xE9), 0xE9u);
}

TEST_F(SmallPorts, DebugExitGivesTheOddStatus) {
  int status = -1;
  IsaDebugExit exit(ports_, 0xF4, 4, [&](int value) { status = value; });
  EXPECT_EQ(in(0xF4, 4), 0u);
  out(0xF4, 0x10, 4);
  EXPECT_EQ(status, 33);
  out(0xF4, 0);
  EXPECT_EQ(status, 1);
}

class Testdev : public DeviceTest {
 protected:
  std::array<irq::InterruptLine, 24> lines() {
    std::array<irq::InterruptLine, 24> all;
    for (unsigned i = 0; i < 24; ++i) all[i] = line(i);
    return all;
  }
  PcTestdev testdev_{ports_, mmio_, lines()};
};

TEST_F(Testdev, ValueIsReadBackInAnyWidth) {
  out(0xE0, 0x12345678, 4);
  EXPECT_EQ(in(0xE0, 4), 0x12345678u);
  EXPECT_EQ(in(0xE2, 2), 0x1234u);
  EXPECT_EQ(in(0xE9), 0x56u);
  out(0xE1, 0xAA);
  out(0xEA, 0xBBCC, 2);
  EXPECT_EQ(in(0xE0, 4), 0xBBCCAA78u);
}

TEST_F(Testdev, DrivesInterruptLines) {
  out(0x2005, 1);
  EXPECT_TRUE(sink_.level(5));
  out(0x2005, 0);
  EXPECT_FALSE(sink_.level(5));
  out(0x2017, 1);
  testdev_.reset();
  EXPECT_FALSE(sink_.level(23));
}

TEST_F(Testdev, MemoryIsPlain) {
  mmio_.write(PcTestdev::kMemoryBase + 0xFFF8, 8, 0x1122334455667788);
  EXPECT_EQ(mmio_.read(PcTestdev::kMemoryBase + 0xFFF9, 2), 0x6677u);
  EXPECT_EQ(mmio_.read(PcTestdev::kMemoryBase, 8), 0u);
}

}  // namespace
}  // namespace limen::device
