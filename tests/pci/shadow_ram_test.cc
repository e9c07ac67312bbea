#include "pci/shadow_ram.h"

#include "pci/i440fx_host_bridge.h"
#include "pci/piix3_isa.h"
#include "pci/piix4_pm.h"
#include "pci_fixture.h"

namespace limen::pci {
namespace {

class ShadowRamTest : public PciTest {
 protected:
  ShadowRamTest() {
    const std::array layout = {memory::GuestMemory::Layout{{0}, 0xA'0000},
                               memory::GuestMemory::Layout{{0x10'0000}, 0x10'0000, 0x6'0000}};
    memory_ = std::move(*memory::GuestMemory::create(layout, {}, true, ShadowRam::kBiosSize));
    ram_ = memory_->file_bytes(ShadowRam::kStart, ShadowRam::kSize);
    bios_ = *memory_->reserve(ShadowRam::kBiosSize);
    std::ranges::fill(bios_, std::byte{0xB1});
    std::ranges::fill(ram_, std::byte{0x11});
    shadow_.emplace(*memory_, mmio_, ram_, bios_);
  }

  /// What a processor reads: memory, or the bus.
  uint8_t read(uint64_t address) {
    std::byte byte{};
    if (memory_->read({address}, {&byte, 1})) return static_cast<uint8_t>(byte);
    return static_cast<uint8_t>(mmio_.read(address, 1));
  }
  void write(uint64_t address, uint8_t value) {
    const auto byte = std::byte{value};
    if (!memory_->write({address}, {&byte, 1})) mmio_.write(address, 1, value);
  }

  std::unique_ptr<memory::GuestMemory> memory_;
  std::span<std::byte> ram_, bios_;
  std::optional<ShadowRam> shadow_;
};

TEST_F(ShadowRamTest, AtPowerOnShowsTheBiosAndNothingBelowIt) {
  I440fxHostBridge bridge(bus_, ports_, nullptr, &*shadow_);
  EXPECT_EQ(read(0xF'FFF0), 0xB1);
  EXPECT_EQ(read(0xE'0000), 0xB1);
  EXPECT_EQ(read(0xC'0000), 0xFF);
  write(0xF'0000, 1);
  write(0xC'0000, 1);
  EXPECT_EQ(read(0xF'0000), 0xB1);
  EXPECT_EQ(ram_[0], std::byte{0x11});
  EXPECT_EQ(ram_[0x3'0000], std::byte{0x11});
}

TEST_F(ShadowRamTest, EachRegisterHasItsSegments) {
  I440fxHostBridge bridge(bus_, ports_, nullptr, &*shadow_);
  bridge.config_write(0x59, 1, 0x30);  // F0000h: RAM
  EXPECT_EQ(read(0xF'0000), 0x11);
  EXPECT_EQ(read(0xE'FFFF), 0xB1);
  bridge.config_write(0x5B, 1, 0x03);  // C8000h: RAM; CC000h not
  EXPECT_EQ(read(0xC'8000), 0x11);
  EXPECT_EQ(read(0xC'BFFF), 0x11);
  EXPECT_EQ(read(0xC'C000), 0xFF);
  bridge.config_write(0x5F, 1, 0x30);  // EC000h
  EXPECT_EQ(read(0xE'BFFF), 0xB1);
  EXPECT_EQ(read(0xE'C000), 0x11);
  bridge.reset();
  EXPECT_EQ(read(0xE'C000), 0xB1);
  EXPECT_EQ(read(0xC'8000), 0xFF);
}

TEST_F(ShadowRamTest, StaysAfterSuspendToRam) {
  I440fxHostBridge bridge(bus_, ports_, nullptr, &*shadow_);
  ASSERT_TRUE(bus_.attach(bridge, "0x0"));
  bridge.config_write(0x59, 1, 0x30);
  bridge.config_write(0x72, 1, 0x40);
  bridge.resume();
  EXPECT_EQ(read(0xF'0000), 0x11);
  EXPECT_EQ(bridge.config_read(0x72, 1), 0x02u);
  bridge.reset();
  EXPECT_EQ(read(0xF'0000), 0xB1);
}

TEST_F(ShadowRamTest, RamCanBeFilledUnderTheBiosAndProtectedThen) {
  I440fxHostBridge bridge(bus_, ports_, nullptr, &*shadow_);
  bridge.config_write(0x59, 1, 0x20);  // writes alone go to RAM
  write(0xF'1234, 0x77);
  EXPECT_EQ(read(0xF'1234), 0xB1);
  bridge.config_write(0x59, 1, 0x30);
  EXPECT_EQ(read(0xF'1234), 0x77);
  write(0xF'1234, 0x78);
  EXPECT_EQ(read(0xF'1234), 0x78);
  bridge.config_write(0x59, 1, 0x10);  // read-only
  write(0xF'1234, 0x79);
  EXPECT_EQ(read(0xF'1234), 0x78);
}

TEST_F(PciTest, Piix3RoutesPinsToTheInterruptsOfItsRegisters) {
  Piix3Isa isa(lines_);
  isa.set_line(3 * 4 + 0, true);  // device 3, INTA: PIRQ C
  EXPECT_TRUE(lines_.changes.empty()) << "not routed";
  isa.config_write(0x62, 1, 10);
  EXPECT_TRUE(lines_.levels[10]);
  isa.set_line(7 * 4 + 0, true);  // device 7 shares it
  isa.set_line(3 * 4 + 0, false);
  EXPECT_TRUE(lines_.levels[10]);
  isa.config_write(0x62, 1, 11);
  EXPECT_FALSE(lines_.levels[10]);
  EXPECT_TRUE(lines_.levels[11]);
  isa.config_write(0x62, 1, 8);  // the clock's, which a PIRQ cannot take
  EXPECT_FALSE(lines_.levels[11]);
  EXPECT_FALSE(lines_.levels[8]);
}

TEST_F(PciTest, Piix4PowerManagementStandsWhereItIsPut) {
  EchoHandler block;
  Piix4Pm pm(ports_, block);
  EXPECT_EQ(pm.pm_base(), 0);
  EXPECT_EQ(ports_.read(0xB004, 2), 0xFFFFu);
  pm.config_write(0x40, 4, 0xB001);
  pm.config_write(0x80, 1, 1);
  EXPECT_EQ(pm.pm_base(), 0xB000);
  EXPECT_EQ(ports_.read(0xB004, 2), 4u);
  pm.config_write(0x40, 4, 0x601);
  EXPECT_EQ(ports_.read(0x604, 2), 4u);
  EXPECT_EQ(ports_.read(0xB004, 2), 0xFFFFu);
  pm.reset();
  EXPECT_EQ(pm.pm_base(), 0);
}

TEST_F(PciTest, ExpansionRomShowsWhileItAndMemoryAreEnabled) {
  const std::array layout = {memory::GuestMemory::Layout{{0}, 0x10'0000}};
  const auto memory = std::move(*memory::GuestMemory::create(layout, {}, true, 0x1000));
  const auto rom = *memory->reserve(0x1000);
  rom[0] = std::byte{0x55};
  PciBus bus("pci.0", {.ports = &ports_, .mmio = &mmio_, .msi = &msi_, .memory = memory.get()});
  TestFunction function;
  function.set_rom(rom);
  ASSERT_TRUE(bus.attach(function, "0x3"));
  function.config_write(0x30, 4, 0xFFFF'FFFE);
  EXPECT_EQ(function.config_read(0x30, 4), 0xFFFF'F000u);
  function.config_write(0x30, 4, 0xFEBF'0001);
  std::byte byte{};
  EXPECT_FALSE(memory->read({0xFEBF'0000}, {&byte, 1})) << "memory is not decoded";
  function.config_write(reg::kCommand, 2, command::kMemory);
  ASSERT_TRUE(memory->read({0xFEBF'0000}, {&byte, 1}));
  EXPECT_EQ(byte, std::byte{0x55});
  EXPECT_TRUE(memory->span({0xFEBF'0000}, 1).empty()) << "cannot be written";
  function.config_write(0x30, 4, 0xFEBF'0000);
  EXPECT_FALSE(memory->read({0xFEBF'0000}, {&byte, 1}));
}

}  // namespace
}  // namespace limen::pci
