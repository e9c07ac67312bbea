// AHCI by its registers: signatures, commands of every kind, queued ones, errors, resets, messages.
#include "storage/ahci/ahci.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "memory_disk.h"
#include "pci/pci_bus.h"
#include "storage/ata/disk.h"
#include "storage/ata/packet_drive.h"

namespace limen::storage {
namespace {

constexpr uint64_t kRam = 1 << 20, kRegisters = 0xC000'0000;
constexpr uint32_t kList = 0x1000, kReceived = 0x2000, kTables = 0x4000, kData = 0x1'0000;

struct Line final : irq::InterruptSink {
  void set_line(unsigned, bool now) override { level = now; }
  bool level = false;
};
struct Messages final : irq::MsiSink {
  void send_msi(const irq::MsiMessage& message) override { sent.push_back(message); }
  std::vector<irq::MsiMessage> sent;
};

class AhciTest : public testing::Test {
 protected:
  AhciTest() {
    const memory::GuestMemory::Layout layout{{0}, kRam};
    memory_ = *memory::GuestMemory::create(std::span(&layout, 1));
    controller_ = std::make_unique<Ahci>("ahci", *memory_);
    ata::DiskProperties properties;
    properties.identity = {.model = "QEMU HARDDISK", .serial = "QM00001", .serial_ata = true};
    EXPECT_TRUE(controller_->attach_drive(0, *ata::Disk::create(properties, disk_)).has_value());
    auto cd = *block::scsi::Cd::create({.product = "QEMU DVD-ROM"}, &disc_);
    EXPECT_TRUE(
        controller_
            ->attach_drive(2, *ata::PacketDrive::create({.model = "QEMU DVD-ROM"}, std::move(cd)))
            .has_value());
    EXPECT_TRUE(bus_.attach(*controller_, "1f.2").has_value());
    bus_.connect_interrupts(line_);
    EXPECT_TRUE(pci::assign_resources(bus_, {kRegisters, 1 << 20}, {0xC000, 0x1000}).has_value());
    controller_->config_write(4, 2, 7);
    base_ = *controller_->bar_mapping(Ahci::kRegisterBar);
    for (const unsigned port : {0u, 2u}) {
      set(port, 0x00, kList + port * 0x400);
      set(port, 0x08, kReceived + port * 0x100);
      set(port, 0x18, 1 << 4);
      set(port, 0x18, 1 << 4 | 1);
      set(port, 0x30, ~0u);
    }
  }

  void set(unsigned port, uint32_t offset, uint32_t value) {
    mmio_.write(base_ + 0x100 + port * 0x80 + offset, 4, value);
  }
  uint32_t get(unsigned port, uint32_t offset) {
    return static_cast<uint32_t>(mmio_.read(base_ + 0x100 + port * 0x80 + offset, 4));
  }
  std::span<uint8_t> ram(uint64_t at, size_t bytes) {
    const auto span = memory_->span({at}, bytes);
    return {reinterpret_cast<uint8_t*>(span.data()), span.size()};
  }
  /// Puts a command with one region of data into a slot.
  void prepare(unsigned port, unsigned slot, const std::array<uint8_t, 16>& frame, uint64_t data,
               uint32_t bytes) {
    const uint64_t table = kTables + slot * 0x100;
    const std::array<uint32_t, 8> header = {5u | (bytes != 0 ? 1u << 16 : 0), 0,
                                            static_cast<uint32_t>(table)};
    std::memcpy(ram(kList + port * 0x400 + slot * 32, 32).data(), header.data(), 32);
    std::ranges::fill(ram(table, 0x100), 0);
    std::ranges::copy(frame, ram(table, 64).begin());
    const std::array<uint32_t, 4> region = {static_cast<uint32_t>(data), 0, 0, bytes - 1};
    std::memcpy(ram(table + 0x80, 16).data(), region.data(), 16);
  }
  static std::array<uint8_t, 16> frame(uint8_t command, uint64_t lba, uint16_t count,
                                       uint16_t features = 0) {
    return {0x27,
            0x80,
            command,
            static_cast<uint8_t>(features),
            static_cast<uint8_t>(lba),
            static_cast<uint8_t>(lba >> 8),
            static_cast<uint8_t>(lba >> 16),
            0x40,
            static_cast<uint8_t>(lba >> 24),
            0,
            0,
            static_cast<uint8_t>(features >> 8),
            static_cast<uint8_t>(count),
            static_cast<uint8_t>(count >> 8)};
  }
  std::vector<uint8_t> sectors(uint64_t first, uint64_t count) {
    const auto* start = disk_.content.data() + first * 512;
    return {start, start + count * 512};
  }
  uint32_t transferred(unsigned slot) {
    uint32_t value = 0;
    std::memcpy(&value, ram(kList + slot * 32 + 4, 4).data(), 4);
    return value;
  }

  memory::IoSpace ports_{"ports"}, mmio_{"mmio"};
  Line line_;
  Messages messages_;
  MemoryDisk disk_{1 << 20}, disc_{64 << 10, true};
  std::unique_ptr<memory::GuestMemory> memory_;
  pci::PciBus bus_{"pcie.0", {.ports = &ports_, .mmio = &mmio_, .msi = &messages_}};
  std::unique_ptr<Ahci> controller_;
  uint64_t base_ = 0;
};

TEST_F(AhciTest, IdentifiesAsTheIch9s) {
  EXPECT_EQ(controller_->config_read(0, 4), 0x2922'8086u);
  EXPECT_EQ(controller_->config_read(8, 4) >> 8, 0x01'0601u);
  EXPECT_EQ(mmio_.read(base_ + 0x10, 4), 0x0001'0301u);
  EXPECT_EQ(mmio_.read(base_ + 0x0C, 4), 0x3Fu);
  EXPECT_EQ(mmio_.read(base_, 4) & 0x1F, 5u);
  // The same by index and data.
  const auto pair = *controller_->bar_mapping(Ahci::kIndexBar);
  ports_.write(pair + 0x10, 4, 0x0C);
  EXPECT_EQ(ports_.read(pair + 0x14, 4), 0x3Fu);
}

TEST_F(AhciTest, TellsWhatIsBehindItsPorts) {
  EXPECT_EQ(get(0, 0x24), 0x0000'0101u);
  EXPECT_EQ(get(2, 0x24), 0xEB14'0101u);
  EXPECT_EQ(get(0, 0x28), 0x123u);
  EXPECT_EQ(get(1, 0x28), 0u);
  EXPECT_EQ(get(0, 0x20) & 0x88, 0u);
  EXPECT_EQ(ram(kReceived + 0x40, 1)[0], 0x34);
}

TEST_F(AhciTest, IdentifiesADiskWithAPioSetup) {
  prepare(0, 0, frame(0xEC, 0, 0), kData, 512);
  set(0, 0x38, 1);
  EXPECT_EQ(get(0, 0x38), 0u);
  EXPECT_EQ(get(0, 0x10), 2u);
  EXPECT_EQ(transferred(0), 512u);
  EXPECT_EQ(ram(kReceived + 0x20, 1)[0], 0x5F);
  EXPECT_EQ(ram(kReceived + 0x20, 16)[15], 0x50);
  const auto data = ram(kData, 512);
  EXPECT_EQ(data[150] | data[151] << 8, 31);
  EXPECT_EQ((data[152] | data[153] << 8) & 0x100, 0x100);
}

TEST_F(AhciTest, ReadsAndWritesByDma) {
  prepare(0, 3, frame(0x25, 10, 4), kData, 2048);
  set(0, 0x38, 8);
  EXPECT_EQ(get(0, 0x10), 1u);
  EXPECT_EQ(transferred(3), 2048u);
  EXPECT_THAT(ram(kData, 2048), testing::ElementsAreArray(sectors(10, 4)));
  std::ranges::fill(ram(kData, 512), 0x77);
  prepare(0, 4, frame(0x35, 50, 1), kData, 512);
  set(0, 0x38, 16);
  EXPECT_EQ(disk_.content[50 * 512 + 511], 0x77);
  EXPECT_EQ(get(0, 0x20), 0x50u);
}

TEST_F(AhciTest, DoesQueuedCommandsTogetherAndOthersAfterThem) {
  disk_.hold = true;
  for (uint8_t tag = 0; tag < 3; ++tag)
    prepare(0, tag, frame(0x60, tag * 8u, static_cast<uint16_t>(tag << 3), 1),
            kData + tag * 0x1000u, 512);
  prepare(0, 3, frame(0xEA, 0, 0), 0, 0);
  set(0, 0x34, 7);
  set(0, 0x38, 15);
  EXPECT_EQ(disk_.held.size(), 3u);
  EXPECT_EQ(get(0, 0x38), 8u);  // taken, but for the one that has to wait
  EXPECT_EQ(get(0, 0x34), 7u);
  disk_.release();
  EXPECT_EQ(get(0, 0x34), 0u);
  EXPECT_EQ(get(0, 0x38), 0u);
  EXPECT_EQ(get(0, 0x10), 9u);
  EXPECT_EQ(disk_.flushes, 1u);
  EXPECT_THAT(ram(kData + 0x1000, 512), testing::ElementsAreArray(sectors(8, 1)));
  EXPECT_EQ(ram(kReceived + 0x58, 1)[0], 0xA1);
}

TEST_F(AhciTest, StopsAtAnErrorUntilThePortIsStarted) {
  disk_.error = EIO;
  prepare(0, 0, frame(0x25, 10, 1), kData, 512);
  prepare(0, 1, frame(0x25, 11, 1), kData, 512);
  set(0, 0x38, 3);
  EXPECT_EQ(get(0, 0x10) & 0x4000'0000, 0x4000'0000u);
  EXPECT_EQ(get(0, 0x20), 0x4051u);
  EXPECT_EQ(get(0, 0x38), 3u);
  disk_.error = 0;
  set(0, 0x18, 1 << 4);
  EXPECT_EQ(get(0, 0x18) & 0x8000, 0u);
  EXPECT_EQ(get(0, 0x38), 0u);
  set(0, 0x10, ~0u);
  set(0, 0x18, 1 << 4 | 1);
  set(0, 0x38, 2);
  EXPECT_EQ(get(0, 0x10), 1u);
  EXPECT_THAT(ram(kData, 512), testing::ElementsAreArray(sectors(11, 1)));
}

TEST_F(AhciTest, LogsWhichQueuedCommandFailed) {
  disk_.error = EIO;
  prepare(0, 5, frame(0x60, 77, 5 << 3, 1), kData, 512);
  set(0, 0x34, 1 << 5);
  set(0, 0x38, 1 << 5);
  EXPECT_EQ(get(0, 0x10) & 0x4000'0008, 0x4000'0008u);
  EXPECT_EQ(get(0, 0x34), 1u << 5);
  disk_.error = 0;
  set(0, 0x18, 1 << 4);
  set(0, 0x18, 1 << 4 | 1);
  prepare(0, 0, frame(0x2F, 0x10, 1), kData, 512);
  set(0, 0x38, 1);
  const auto log = ram(kData, 512);
  EXPECT_EQ(log[0], 5);
  EXPECT_EQ(log[3], 0x40);
  EXPECT_EQ(log[4], 77);
}

TEST_F(AhciTest, TellsWhenATableIsTooShortOrLeadsOutOfRam) {
  prepare(0, 0, frame(0x25, 10, 2), kData, 512);
  set(0, 0x38, 1);
  EXPECT_EQ(get(0, 0x10) & 0x4100'0000, 0x4100'0000u);
  set(0, 0x18, 1 << 4);
  set(0, 0x10, ~0u);
  set(0, 0x18, 1 << 4 | 1);
  prepare(0, 0, frame(0x25, 10, 1), 0xF000'0000, 512);
  set(0, 0x38, 1);
  EXPECT_EQ(get(0, 0x10) & 0x2000'0000, 0x2000'0000u);
}

TEST_F(AhciTest, ReadsADiscByPackets) {
  auto packet = frame(0xA0, 0, 0, 1);
  prepare(2, 0, packet, 0, 0);  // TEST UNIT READY hears of power-on
  set(2, 0x38, 1);
  EXPECT_EQ(get(2, 0x20), 0x6451u);
  set(2, 0x18, 1 << 4);
  set(2, 0x10, ~0u);
  set(2, 0x18, 1 << 4 | 1);
  prepare(2, 0, packet, kData, 4096);
  const std::array<uint8_t, 12> read = {0x28, 0, 0, 0, 0, 2, 0, 0, 2};
  std::ranges::copy(read, ram(kTables + 0x40, 12).begin());
  set(2, 0x38, 1);
  EXPECT_EQ(get(2, 0x10), 1u);
  EXPECT_TRUE(std::ranges::equal(ram(kData, 4096), std::span(disc_.content).subspan(4096, 4096)));
  EXPECT_EQ(ram(kReceived + 0x200 + 0x40, 20)[12], 3);
}

TEST_F(AhciTest, ResetsALinkAndADrive) {
  disk_.hold = true;
  prepare(0, 0, frame(0x25, 10, 1), kData, 512);
  set(0, 0x38, 1);
  set(0, 0x2C, 1);
  EXPECT_EQ(get(0, 0x28), 0u);
  set(0, 0x2C, 0);
  EXPECT_EQ(get(0, 0x28), 0u);  // not while the disk has the command
  disk_.release();
  EXPECT_EQ(get(0, 0x28), 0x123u);
  EXPECT_EQ(get(0, 0x30), 1u << 26);
  EXPECT_EQ(get(0, 0x20), 0x0150u);
  EXPECT_EQ(get(0, 0x38), 0u);
  // By frames.
  auto control = frame(0, 0, 0);
  control[1] = 0;
  control[15] = 4;
  prepare(0, 0, control, 0, 0);
  set(0, 0x38, 1);
  control[15] = 0;
  prepare(0, 1, control, 0, 0);
  set(0, 0x38, 2);
  EXPECT_EQ(get(0, 0x38), 0u);
  EXPECT_EQ(get(0, 0x20), 0x0150u);
}

TEST_F(AhciTest, ResetsTheControllerOnceItsDisksAreDone) {
  disk_.hold = true;
  prepare(0, 0, frame(0x25, 10, 1), kData, 512);
  set(0, 0x38, 1);
  mmio_.write(base_ + 4, 4, 0x8000'0001);
  EXPECT_EQ(mmio_.read(base_ + 4, 4), 0x8000'0001u);
  disk_.release();
  EXPECT_EQ(mmio_.read(base_ + 4, 4), 0x8000'0000u);
  EXPECT_EQ(get(0, 0x18) & 0xC011, 0u);
  EXPECT_EQ(get(0, 0x28), 0x123u);
}

TEST_F(AhciTest, RaisesItsPinOrSendsAMessage) {
  mmio_.write(base_ + 4, 4, 0x8000'0002);
  set(0, 0x14, 1);
  prepare(0, 0, frame(0xEA, 0, 0), 0, 0);
  set(0, 0x38, 1);
  EXPECT_TRUE(line_.level);
  EXPECT_EQ(mmio_.read(base_ + 8, 4), 1u);
  set(0, 0x10, 1);
  mmio_.write(base_ + 8, 4, 1);
  EXPECT_FALSE(line_.level);
  controller_->config_write(0x44, 4, 0xFEE0'0000);
  controller_->config_write(0x4C, 2, 0x31);
  controller_->config_write(0x42, 2, 1);
  set(0, 0x38, 1);
  EXPECT_FALSE(line_.level);
  ASSERT_EQ(messages_.sent.size(), 1u);
  EXPECT_EQ(messages_.sent[0].address, 0xFEE0'0000u);
  EXPECT_EQ(messages_.sent[0].data, 0x31u);
}

}  // namespace
}  // namespace limen::storage
