// The PIIX3's IDE function by its registers: PIO, bus master DMA, ATAPI, errors and resets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "memory_disk.h"
#include "pci/pci_bus.h"
#include "storage/ata/disk.h"
#include "storage/ata/packet_drive.h"
#include "storage/ide/piix3_ide.h"

namespace limen::storage {
namespace {

constexpr uint64_t kRam = 1 << 20, kTable = 0x1000, kData = 0x1'0000;
constexpr uint16_t kCommand = 0x1F0, kControl = 0x3F6, kMaster = 0xC000;

struct Lines final : irq::InterruptSink {
  void set_line(unsigned line, bool level) override {
    if (level && !levels.at(line)) ++edges.at(line);
    levels.at(line) = level;
  }
  std::array<bool, 2> levels{};
  std::array<unsigned, 2> edges{};
};

class Ide : public testing::Test {
 protected:
  Ide() {
    const memory::GuestMemory::Layout layout{{0}, kRam};
    memory_ = *memory::GuestMemory::create(std::span(&layout, 1));
    function_ = std::make_unique<Piix3Ide>(
        "ide", *memory_, ports_,
        std::array{irq::InterruptLine(lines_, 0), irq::InterruptLine(lines_, 1)});
    ata::DiskProperties properties;
    properties.identity = {.model = "QEMU HARDDISK", .serial = "QM00001"};
    EXPECT_TRUE(function_->attach_drive(0, 0, *ata::Disk::create(properties, disk_)).has_value());
    auto cd = *block::scsi::Cd::create({.product = "QEMU DVD-ROM"}, &disc_);
    cd_ = cd.get();
    EXPECT_TRUE(function_
                    ->attach_drive(
                        1, 0, *ata::PacketDrive::create({.model = "QEMU DVD-ROM"}, std::move(cd)))
                    .has_value());
    EXPECT_TRUE(bus_.attach(*function_, "1.1").has_value());
    EXPECT_TRUE(pci::assign_resources(bus_, {0xC000'0000, 1 << 20}, {kMaster, 0x1000}).has_value());
    function_->config_write(4, 2, 5);
  }

  void out(uint16_t port, uint64_t value, unsigned size = 1) { ports_.write(port, size, value); }
  uint64_t in(uint16_t port, unsigned size = 1) { return ports_.read(port, size); }
  uint8_t status() { return static_cast<uint8_t>(in(kControl)); }

  void command(uint8_t code, uint64_t lba, uint8_t count, uint16_t base = kCommand) {
    out(static_cast<uint16_t>(base + 6), 0xE0 | (lba >> 24 & 0xF));
    out(static_cast<uint16_t>(base + 2), count);
    out(static_cast<uint16_t>(base + 3), lba & 0xFF);
    out(static_cast<uint16_t>(base + 4), lba >> 8 & 0xFF);
    out(static_cast<uint16_t>(base + 5), lba >> 16 & 0xFF);
    out(static_cast<uint16_t>(base + 7), code);
  }
  std::vector<uint8_t> read_data(size_t bytes, uint16_t base = kCommand) {
    std::vector<uint8_t> data(bytes);
    for (size_t i = 0; i < bytes; i += 2) {
      const uint64_t word = in(base, 2);
      std::memcpy(&data[i], &word, 2);
    }
    return data;
  }
  /// A region of the bus master's table.
  void region(unsigned index, uint32_t base, uint32_t count, bool last) {
    const std::array<uint32_t, 2> entry = {base, count | (last ? 1u << 31 : 0)};
    ASSERT_TRUE(memory_->write({kTable + 8 * index}, std::as_bytes(std::span(entry))).has_value());
  }
  void start_master(bool to_memory, uint16_t base = kMaster) {
    out(static_cast<uint16_t>(base + 4), kTable, 4);
    out(static_cast<uint16_t>(base + 2), 6);
    out(base, to_memory ? 8 : 0);
    out(base, to_memory ? 9 : 1);
  }
  std::span<uint8_t> ram(uint64_t at, size_t bytes) {
    const auto span = memory_->span({at}, bytes);
    return {reinterpret_cast<uint8_t*>(span.data()), span.size()};
  }
  std::vector<uint8_t> sectors(uint64_t first, uint64_t count) {
    const auto* start = disk_.content.data() + first * 512;
    return {start, start + count * 512};
  }
  void send_packet(const std::array<uint8_t, 12>& packet, uint16_t limit, bool dma = false) {
    out(0x176, 0xA0);
    out(0x171, dma ? 1 : 0);
    out(0x174, limit & 0xFF);
    out(0x175, limit >> 8);
    out(0x177, 0xA0);
    ASSERT_EQ(in(0x376), 0x58u);
    ASSERT_EQ(in(0x172), 1u);
    for (size_t i = 0; i < 12; i += 2)
      out(0x170, static_cast<uint64_t>(packet[i] | packet[i + 1] << 8), 2);
  }

  memory::IoSpace ports_{"ports"}, mmio_{"mmio"};
  Lines lines_;
  MemoryDisk disk_{1 << 20}, disc_{64 << 10, true};
  std::unique_ptr<memory::GuestMemory> memory_;
  pci::PciBus bus_{"pci.0", {.ports = &ports_, .mmio = &mmio_}};
  std::unique_ptr<Piix3Ide> function_;
  block::scsi::Cd* cd_ = nullptr;
};

TEST_F(Ide, IdentifiesAsThePiix3s) {
  EXPECT_EQ(function_->config_read(0, 4), 0x7010'8086u);
  EXPECT_EQ(function_->config_read(8, 4), 0x0101'8000u);
  EXPECT_EQ(function_->config_read(0x40, 4), 0x8000'8000u);
  EXPECT_EQ(function_->config_read(0x20, 4), uint32_t{kMaster} | 1);
}

TEST_F(Ide, TellsTheSignaturesOfItsDrives) {
  EXPECT_EQ(status(), 0x50);
  EXPECT_EQ(in(0x1F4), 0u);
  EXPECT_EQ(in(0x174), 0x14u);
  EXPECT_EQ(in(0x175), 0xEBu);
  EXPECT_EQ(in(0x376), 0u);
  // There is no second drive.
  out(0x1F6, 0xB0);
  EXPECT_EQ(status(), 0);
}

TEST_F(Ide, IdentifiesADisk) {
  command(0xEC, 0, 0);
  EXPECT_EQ(lines_.edges[0], 1u);
  EXPECT_EQ(in(0x1F7), 0x58u);
  EXPECT_FALSE(lines_.levels[0]);
  const auto data = read_data(512);
  EXPECT_EQ(in(0x1F7), 0x50u);
  EXPECT_EQ(lines_.edges[0], 1u);
  const auto word = [&](size_t i) { return data[2 * i] | data[2 * i + 1] << 8; };
  EXPECT_EQ(word(60) | word(61) << 16, 2048);
  EXPECT_EQ(word(100), 2048);
  EXPECT_EQ(word(83) & 0xC000, 0x4000);
  EXPECT_EQ(word(76), 0);  // not serial
  std::string model;
  for (size_t i = 27; i < 47; ++i) {
    model += static_cast<char>(word(i) >> 8);
    model += static_cast<char>(word(i));
  }
  EXPECT_EQ(model.substr(0, 14), "QEMU HARDDISK ");
  uint8_t sum = 0;
  for (const uint8_t byte : data) sum = static_cast<uint8_t>(sum + byte);
  EXPECT_EQ(sum, 0);
}

TEST_F(Ide, ReadsByPioASectorAtATime) {
  command(0x20, 5, 3);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(lines_.edges[0], i + 1);
    EXPECT_EQ(in(0x1F7), 0x58u);
    EXPECT_EQ(read_data(512), sectors(5 + i, 1));
  }
  EXPECT_EQ(in(0x1F7), 0x50u);
  EXPECT_EQ(lines_.edges[0], 3u);
}

TEST_F(Ide, ReadsByPioInMultiples) {
  command(0xC6, 0, 4);
  EXPECT_EQ(in(0x1F7), 0x50u);
  command(0xC4, 8, 6);
  EXPECT_EQ(read_data(2048), sectors(8, 4));
  EXPECT_EQ(in(0x1F7), 0x58u);
  EXPECT_EQ(read_data(1024), sectors(12, 2));
  EXPECT_EQ(in(0x1F7), 0x50u);
  command(0xC6, 0, 3);
  EXPECT_EQ(in(0x1F7), 0x51u);
  EXPECT_EQ(in(0x1F1), 4u);
}

TEST_F(Ide, ReadsByCylinderHeadAndSector) {
  out(0x1F6, 0xA0 | 2);
  out(0x1F2, 1);
  out(0x1F3, 4);  // sector
  out(0x1F4, 1);  // cylinder
  out(0x1F5, 0);
  out(0x1F7, 0x20);
  EXPECT_EQ(read_data(512), sectors((1 * 16 + 2) * 63 + 3, 1));
  // Sectors count from 1.
  out(0x1F3, 0);
  out(0x1F2, 1);
  out(0x1F7, 0x20);
  EXPECT_EQ(in(0x1F7), 0x51u);
  EXPECT_EQ(in(0x1F1), 0x10u);
}

TEST_F(Ide, TakesHighOrderBytesOf48BitCommands) {
  for (uint16_t port = 0x1F2; port <= 0x1F5; ++port) out(port, 0);
  out(0x1F2, 2);
  out(0x1F3, 7);
  out(0x1F4, 0);
  out(0x1F5, 0);
  out(0x1F6, 0x40);
  out(0x1F7, 0x24);
  EXPECT_EQ(read_data(1024), sectors(7, 2));
  EXPECT_EQ(in(0x1F7), 0x50u);
  // The last block and one more.
  out(0x1F3, 0);
  out(0x1F3, 0xFF);
  out(0x1F4, 0);
  out(0x1F4, 7);
  out(0x1F7, 0x24);
  EXPECT_EQ(in(0x1F7), 0x51u);
  EXPECT_EQ(in(0x1F1), 0x10u);
  out(kControl, 0x80);
  EXPECT_EQ(in(0x1F2), 0u);
}

TEST_F(Ide, WritesByPioAndFlushes) {
  command(0x30, 9, 2);
  EXPECT_EQ(lines_.edges[0], 0u);  // the first request needs none
  for (unsigned sector = 0; sector < 2; ++sector) {
    EXPECT_EQ(status(), 0x58);
    for (unsigned i = 0; i < 128; ++i) out(kCommand, 0xA5A5'0000u + sector, 4);
    EXPECT_EQ(lines_.edges[0], sector + 1);
    in(0x1F7);
  }
  EXPECT_EQ(in(0x1F7), 0x50u);
  EXPECT_EQ(disk_.content[9 * 512 + 2], 0xA5);
  EXPECT_EQ(disk_.content[10 * 512], 1);
  EXPECT_EQ(disk_.flushes, 0u);
  command(0xE7, 0, 0);
  EXPECT_EQ(disk_.flushes, 1u);
  EXPECT_EQ(in(0x1F7), 0x50u);
}

TEST_F(Ide, FlushesEveryWriteWithoutAWriteCache) {
  out(0x1F1, 0x82);
  command(0xEF, 0, 0);
  EXPECT_EQ(disk_.flushes, 1u);
  command(0x30, 0, 1);
  for (unsigned i = 0; i < 128; ++i) out(kCommand, 0, 4);
  EXPECT_EQ(disk_.flushes, 2u);
}

TEST_F(Ide, ReadsByTheBusMasterIntoSeveralRegions) {
  region(0, kData, 1024, false);
  region(1, kData + 0x2000, 1024, true);
  command(0xC8, 20, 4);
  EXPECT_EQ(status() & 0x80, 0);
  start_master(true);
  EXPECT_EQ(in(kMaster + 2), 0x04u);  // ended, with an interrupt
  EXPECT_TRUE(lines_.levels[0]);
  EXPECT_EQ(in(0x1F7), 0x50u);
  EXPECT_THAT(ram(kData, 1024), testing::ElementsAreArray(sectors(20, 2)));
  EXPECT_THAT(ram(kData + 0x2000, 1024), testing::ElementsAreArray(sectors(22, 2)));
  out(kMaster, 8);
  out(kMaster + 2, 4);
  EXPECT_EQ(in(kMaster + 2), 0u);
}

TEST_F(Ide, WritesByTheBusMaster) {
  std::ranges::fill(ram(kData, 1024), 0x3C);
  region(0, kData, 4096, true);
  command(0xCA, 30, 2);
  start_master(false);
  EXPECT_EQ(in(kMaster + 2), 0x05u);  // the table had more than was asked for
  EXPECT_EQ(in(0x1F7), 0x50u);
  EXPECT_EQ(disk_.content[30 * 512], 0x3C);
  EXPECT_EQ(disk_.content[32 * 512 - 1], 0x3C);
}

TEST_F(Ide, RunsOutOfItsTable) {
  region(0, kData, 512, true);
  command(0xC8, 1, 2);
  start_master(true);
  EXPECT_EQ(in(kMaster + 2), 0u);  // neither active nor with an interrupt
  EXPECT_FALSE(lines_.levels[0]);
  EXPECT_THAT(ram(kData, 512), testing::ElementsAreArray(sectors(1, 1)));
}

TEST_F(Ide, RefusesATableOutsideRam) {
  region(0, 0xF000'0000, 512, true);
  command(0xC8, 1, 1);
  start_master(true);
  EXPECT_EQ(in(kMaster + 2) & 3, 2u);
  EXPECT_EQ(in(0x1F7), 0x51u);
}

TEST_F(Ide, IsBusyUntilTheDiskAnswers) {
  disk_.hold = true;
  region(0, kData, 512, true);
  command(0xC8, 3, 1);
  start_master(true);
  EXPECT_EQ(status() & 0x80, 0x80);
  EXPECT_EQ(in(kMaster + 2), 1u);
  command(0xEC, 0, 0);  // not heard
  EXPECT_EQ(status() & 0x80, 0x80);
  disk_.release();
  EXPECT_EQ(in(0x1F7), 0x50u);
  EXPECT_THAT(ram(kData, 512), testing::ElementsAreArray(sectors(3, 1)));
}

TEST_F(Ide, TellsOfAMediumsErrors) {
  disk_.error = EIO;
  command(0x20, 77, 1);
  EXPECT_EQ(in(0x1F7), 0x51u);
  EXPECT_EQ(in(0x1F1), 0x40u);
  EXPECT_EQ(in(0x1F3), 77u);
  EXPECT_EQ(lines_.edges[0], 1u);
  command(0x30, 77, 1);
  for (unsigned i = 0; i < 128; ++i) out(kCommand, 0, 4);
  EXPECT_EQ(in(0x1F7), 0x51u);
  EXPECT_EQ(in(0x1F1), 0x04u);
  disk_.error = 0;
  command(0x20, 77, 1);
  EXPECT_EQ(read_data(512), sectors(77, 1));
}

TEST_F(Ide, AbortsWhatItDoesNotKnow) {
  for (const uint8_t code : std::vector<uint8_t>{0x00, 0x08, 0xA0, 0xA1, 0xF5, 0x60}) {
    command(code, 0, 1);
    EXPECT_EQ(in(0x1F7), 0x51u) << unsigned{code};
    EXPECT_EQ(in(0x1F1), 0x04u);
  }
}

TEST_F(Ide, ASoftwareResetEndsWhatIsUnderWay) {
  disk_.hold = true;
  command(0x20, 0, 1);
  out(kControl, 4);
  EXPECT_EQ(status(), 0x80);
  out(kControl, 0);
  EXPECT_EQ(status() & 0x80, 0x80);
  disk_.release();
  EXPECT_EQ(status(), 0x50);
  EXPECT_EQ(in(0x1F1), 1u);
  EXPECT_EQ(in(0x1F2), 1u);
}

TEST_F(Ide, KeepsItsInterruptBackWhenToldTo) {
  out(kControl, 2);
  command(0xE7, 0, 0);
  EXPECT_FALSE(lines_.levels[0]);
  out(kControl, 0);
  EXPECT_TRUE(lines_.levels[0]);
  in(0x1F7);
  EXPECT_FALSE(lines_.levels[0]);
}

TEST_F(Ide, TrimsRanges) {
  std::ranges::fill(ram(kData, 512), 0);
  const std::array<uint64_t, 2> ranges = {uint64_t{8} << 48 | 16, uint64_t{4} << 48 | 100};
  std::memcpy(ram(kData, 16).data(), ranges.data(), 16);
  region(0, kData, 512, true);
  out(0x1F1, 1);
  out(0x1F2, 0);  // the high half of the count
  command(0x06, 0, 1);
  start_master(false);
  EXPECT_EQ(in(0x1F7), 0x50u);
  EXPECT_THAT(disk_.discarded, testing::ElementsAre(testing::Pair(16 * 512, 8 * 512),
                                                    testing::Pair(100 * 512, 4 * 512)));
}

TEST_F(Ide, GivesTheDiscsBlocksInPartsOfTheHostsSize) {
  const std::array<uint8_t, 12> inquiry = {0x12, 0, 0, 0, 36};
  send_packet(inquiry, 0xFFFE);
  EXPECT_EQ(in(0x172), 2u);
  EXPECT_EQ(in(0x174) | in(0x175) << 8, 36u);
  const auto answer = read_data(36, 0x170);
  EXPECT_EQ(answer[0], 5);
  EXPECT_EQ(std::string(answer.begin() + 16, answer.begin() + 28), "QEMU DVD-ROM");
  EXPECT_EQ(in(0x177), 0x50u);
  EXPECT_EQ(in(0x172), 3u);
  // The first command after power-on hears of it.
  send_packet({}, 0xFFFE);
  EXPECT_EQ(in(0x177), 0x51u);
  EXPECT_EQ(in(0x171), 0x64u);
  send_packet({0x03, 0, 0, 0, 18}, 0xFFFE);
  EXPECT_EQ(read_data(18, 0x170)[2], 6);
  EXPECT_EQ(in(0x177), 0x50u);

  send_packet({0x28, 0, 0, 0, 0, 3, 0, 0, 2}, 2048);
  for (unsigned block = 3; block < 5; ++block) {
    EXPECT_EQ(in(0x177), 0x58u);
    EXPECT_EQ(in(0x174) | in(0x175) << 8, 2048u);
    const auto data = read_data(2048, 0x170);
    EXPECT_TRUE(std::equal(data.begin(), data.end(), disc_.content.begin() + block * 2048));
  }
  EXPECT_EQ(in(0x177), 0x50u);
}

TEST_F(Ide, GivesTheDiscsBlocksByTheBusMaster) {
  send_packet({}, 0);
  in(0x177);
  region(0, kData, 4096, true);
  send_packet({0xA8, 0, 0, 0, 0, 1, 0, 0, 0, 2}, 0, true);
  start_master(true, kMaster + 8);
  EXPECT_EQ(in(kMaster + 10), 4u);
  EXPECT_EQ(in(0x177), 0x50u);
  EXPECT_TRUE(std::ranges::equal(ram(kData, 4096), std::span(disc_.content).subspan(2048, 4096)));
  send_packet({0x28, 0, 0, 0, 1, 0, 0, 0, 1}, 0xFFFE);
  EXPECT_EQ(in(0x177), 0x51u);
  EXPECT_EQ(in(0x171), 0x54u);  // illegal request
}

TEST_F(Ide, TellsOfAnOpenTray) {
  send_packet({}, 0);
  ASSERT_TRUE(cd_->open_tray(false).has_value());
  send_packet({}, 0);
  EXPECT_EQ(in(0x177), 0x51u);
  EXPECT_EQ(in(0x171), 0x24u);
  send_packet({0x03, 0, 0, 0, 18}, 0xFFFE);
  const auto sense = read_data(18, 0x170);
  EXPECT_EQ(sense[12], 0x3A);
  EXPECT_EQ(sense[13], 2);
}

TEST_F(Ide, AnswersIdentifyDeviceOfACdWithItsSignature) {
  out(0x176, 0xA0);
  out(0x177, 0xEC);
  EXPECT_EQ(in(0x177), 0x51u);
  EXPECT_EQ(in(0x174), 0x14u);
  EXPECT_EQ(in(0x175), 0xEBu);
  out(0x177, 0xA1);
  const auto data = read_data(512, 0x170);
  EXPECT_EQ(data[0] | data[1] << 8, 0x85C0);
}

}  // namespace
}  // namespace limen::storage
