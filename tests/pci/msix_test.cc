#include "pci_fixture.h"

namespace limen::pci {
namespace {

constexpr uint64_t kBase = 0xC000'0000;
constexpr uint32_t kEnable = 0x8000, kFunctionMask = 0x4000;

class Msix : public PciTest {
 protected:
  Msix() {
    function_.add_msix(1, 3);
    EXPECT_TRUE(bus_.attach(function_));
    function_.config_write(0x14, 4, kBase);
    function_.config_write(reg::kCommand, 2, command::kMemory | command::kBusMaster);
    capability_ = static_cast<uint16_t>(function_.config_read(reg::kCapabilities, 1));
  }
  void control(uint32_t value) {
    function_.config_write(static_cast<uint16_t>(capability_ + 2), 2, value);
  }
  void program(unsigned vector, uint64_t address, uint32_t data, bool masked) {
    mmio_.write(kBase + 16 * vector, 4, address & 0xFFFF'FFFF);
    mmio_.write(kBase + 16 * vector + 4, 4, address >> 32);
    mmio_.write(kBase + 16 * vector + 8, 4, data);
    mmio_.write(kBase + 16 * vector + 12, 4, masked);
  }
  uint64_t pending() { return mmio_.read(kBase + 0x800, 8); }

  TestFunction function_;
  uint16_t capability_ = 0;
};

TEST_F(Msix, CapabilityDescribesTableAndPendingBits) {
  EXPECT_EQ(function_.config_read(capability_, 1), 0x11u);
  EXPECT_EQ(function_.config_read(static_cast<uint16_t>(capability_ + 2), 2), 2u);
  EXPECT_EQ(function_.config_read(static_cast<uint16_t>(capability_ + 4), 4), 1u);
  EXPECT_EQ(function_.config_read(static_cast<uint16_t>(capability_ + 8), 4), 0x801u);
  EXPECT_EQ(function_.bar(1).size, 0x1000u);
}

TEST_F(Msix, VectorsAreMaskedAfterReset) {
  EXPECT_EQ(mmio_.read(kBase + 12, 4), 1u);
  program(0, 0xFEE0'0000, 1, false);
  function_.reset();
  function_.config_write(0x14, 4, kBase);
  function_.config_write(reg::kCommand, 2, command::kMemory);
  EXPECT_EQ(mmio_.read(kBase, 8), 0u);
  EXPECT_EQ(mmio_.read(kBase + 8, 8), uint64_t{1} << 32);
}

TEST_F(Msix, SendsTheProgrammedMessage) {
  program(1, 0xFEE0'1000, 0x4041, false);
  control(kEnable);
  function_.msix()->notify(1);
  ASSERT_EQ(msi_.messages.size(), 1u);
  EXPECT_EQ(msi_.messages[0].address, 0xFEE0'1000u);
  EXPECT_EQ(msi_.messages[0].data, 0x4041u);
  EXPECT_EQ(pending(), 0u);
}

TEST_F(Msix, AnEventSendsWhileTheVectorIsNotMasked) {
  struct Sink final : irq::MsiSink {
    struct Connection final : vcpu::EventInterrupt {
      explicit Connection(unsigned& count) : connected(count) { ++connected; }
      ~Connection() override { --connected; }
      unsigned& connected;
    };
    void send_msi(const irq::MsiMessage&) override {}
    std::unique_ptr<vcpu::EventInterrupt> connect(int event,
                                                  const irq::MsiMessage& message) override {
      EXPECT_EQ(event, 42);
      last = message;
      return std::make_unique<Connection>(connected);
    }
    unsigned connected = 0;
    irq::MsiMessage last;
  } sink;
  MsixTable& table = *function_.msix();
  table.connect(sink);
  bool connected = false;
  program(1, 0xFEE0'1000, 0x4041, false);
  table.connect_event(42, 1, [&](bool now) { connected = now; });
  EXPECT_EQ(sink.connected, 0u);  // MSI-X is off
  control(kEnable);
  EXPECT_EQ(sink.connected, 1u);
  EXPECT_TRUE(connected);
  EXPECT_EQ(sink.last, (irq::MsiMessage{0xFEE0'1000, 0x4041}));
  program(1, 0xFEE0'2000, 0x4042, true);
  EXPECT_EQ(sink.connected, 0u);
  EXPECT_FALSE(connected);
  program(1, 0xFEE0'2000, 0x4042, false);
  EXPECT_TRUE(connected);
  EXPECT_EQ(sink.last, (irq::MsiMessage{0xFEE0'2000, 0x4042}));
  control(kEnable | kFunctionMask);
  EXPECT_FALSE(connected);
  control(kEnable);
  EXPECT_EQ(sink.connected, 1u);
  table.disconnect_event(42);
  EXPECT_EQ(sink.connected, 0u);
  table.connect(msi_);
}

TEST_F(Msix, TakesTheTableInQuadwords) {
  mmio_.write(kBase + 32, 8, 0x0000'0001'FEE0'2000);
  mmio_.write(kBase + 40, 8, 0x0000'0000'0000'0055);
  control(kEnable);
  function_.msix()->notify(2);
  ASSERT_EQ(msi_.messages.size(), 1u);
  EXPECT_EQ(msi_.messages[0].address, 0x1'FEE0'2000u);
  EXPECT_EQ(msi_.messages[0].data, 0x55u);
}

TEST_F(Msix, SendsNothingWhileDisabled) {
  program(0, 0xFEE0'0000, 1, false);
  function_.msix()->notify(0);
  EXPECT_TRUE(msi_.messages.empty());
}

TEST_F(Msix, RemembersAMaskedVectorAndSendsItOnceUnmasked) {
  program(1, 0xFEE0'1000, 0x41, true);
  control(kEnable);
  function_.msix()->notify(1);
  function_.msix()->notify(1);
  EXPECT_TRUE(msi_.messages.empty());
  EXPECT_EQ(pending(), 2u);
  mmio_.write(kBase + 16 + 12, 4, 0);
  EXPECT_EQ(msi_.messages.size(), 1u);
  EXPECT_EQ(pending(), 0u);
}

TEST_F(Msix, FunctionMaskHoldsEveryVector) {
  program(0, 0xFEE0'0000, 1, false);
  program(2, 0xFEE0'0000, 3, false);
  control(kEnable | kFunctionMask);
  function_.msix()->notify(0);
  function_.msix()->notify(2);
  EXPECT_EQ(pending(), 5u);
  control(kEnable);
  EXPECT_EQ(msi_.messages.size(), 2u);
}

TEST_F(Msix, WaitsForBusMastering) {
  program(0, 0xFEE0'0000, 1, false);
  control(kEnable);
  function_.config_write(reg::kCommand, 2, command::kMemory);
  function_.msix()->notify(0);
  EXPECT_TRUE(msi_.messages.empty());
  function_.config_write(reg::kCommand, 2, command::kMemory | command::kBusMaster);
  EXPECT_EQ(msi_.messages.size(), 1u);
}

TEST_F(Msix, IgnoresVectorsThatDoNotExist) {
  control(kEnable);
  function_.msix()->notify(3);
  function_.msix()->notify(0xFFFF);
  EXPECT_EQ(pending(), 0u);
  EXPECT_TRUE(msi_.messages.empty());
}

TEST_F(Msix, OddAccessesAreHarmless) {
  program(0, 0xFEE0'0000, 0x77, false);
  mmio_.write(kBase + 8, 1, 0x11);
  mmio_.write(kBase + 9, 2, 0x2222);
  mmio_.write(kBase + 0x800, 8, ~0ull);
  mmio_.write(kBase + 0x7F8, 8, ~0ull);
  EXPECT_EQ(mmio_.read(kBase + 8, 4), 0x77u);
  EXPECT_EQ(pending(), 0u);
  EXPECT_EQ(mmio_.read(kBase + 0xFFC, 8) & 0xFFFF'FFFF, 0u);
}

TEST(MsixLayout, ManyVectorsGetALargerBar) {
  const MsixTable table(300);
  EXPECT_GE(table.pending_offset(), 300u * 16);
  EXPECT_GE(table.bar_size(), table.pending_offset() + 300u / 8);
  EXPECT_EQ(table.bar_size() & (table.bar_size() - 1), 0u);
}

}  // namespace
}  // namespace limen::pci
