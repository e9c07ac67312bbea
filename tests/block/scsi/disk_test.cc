#include "block/scsi/disk.h"

#include <gmock/gmock.h>

#include "block/scsi/unit_fixture.h"

namespace limen::block::scsi {
namespace {

using Kind = Request::Kind;
constexpr size_t kBytes = 1 << 20;
constexpr uint8_t kBlocks = 8;  // of what the tests read and write

class DiskTest : public UnitTest {
 protected:
  void create(DiskProperties properties = {}, bool read_only = false) {
    disk_ = std::make_unique<virtio::MemoryDisk>(kBytes);
    disk_->is_read_only = read_only;
    for (size_t i = 0; i < kBytes; ++i) disk_->bytes[i] = static_cast<std::byte>(i / 512 * 7);
    unit_ = *Disk::create(properties, *disk_);
    clear_attention();
  }
  [[nodiscard]] uint8_t at(size_t byte) const { return static_cast<uint8_t>(disk_->bytes[byte]); }
};

TEST_F(DiskTest, InquirySaysWhatItIs) {
  create({.identity = {.vendor = "LIMEN", .product = "DISK", .revision = "1"}});
  const auto bytes = good({kInquiry, 0, 0, 0, 96, 0});
  ASSERT_EQ(bytes.size(), 96u);
  EXPECT_EQ(bytes[0], 0);
  EXPECT_EQ(bytes[3] & 0x0F, 2);
  EXPECT_EQ(bytes[4], 91);
  EXPECT_EQ(std::string(bytes.begin() + 8, bytes.begin() + 36), "LIMEN   DISK            1   ");
  EXPECT_EQ(good({kInquiry, 0, 0, 0, 5, 0}).size(), 5u);
  EXPECT_EQ(sense_of({kInquiry, 0, 0x80, 0, 96, 0}), sense::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of({kInquiry, 2, 0, 0, 96, 0}), sense::kInvalidFieldInCdb);
}

TEST_F(DiskTest, ProductDataPages) {
  create({.identity = {.serial = "SN1", .wwn = 0x5000C50015EA71ACull}});
  EXPECT_EQ(good({kInquiry, 1, 0, 0, 96, 0}),
            (Bytes{0, 0, 0, 6, 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2}));
  EXPECT_EQ(good({kInquiry, 1, 0x80, 0, 96, 0}), (Bytes{0, 0x80, 0, 3, 'S', 'N', '1'}));
  const auto names = good({kInquiry, 1, 0x83, 0, 96, 0});
  EXPECT_EQ(names, (Bytes{0, 0x83, 0, 19,   2,    0,    0,    3,    'S',  'N',  '1', 1,
                          3, 0,    8, 0x50, 0x00, 0xC5, 0x00, 0x15, 0xEA, 0x71, 0xAC}));
  const auto limits = good({kInquiry, 1, 0xB0, 0, 96, 0});
  ASSERT_EQ(limits.size(), 64u);
  EXPECT_EQ(get_be<4>(&limits[20]), (1u << 30) / 512);
  EXPECT_EQ(get_be<4>(&limits[24]), 255u);
  EXPECT_EQ(good({kInquiry, 1, 0xB2, 0, 96, 0})[5], 0xE0);
  EXPECT_EQ(sense_of({kInquiry, 1, 0xB7, 0, 96, 0}), sense::kInvalidFieldInCdb);
}

TEST_F(DiskTest, FirstCommandHearsOfThePowerOn) {
  create();
  unit_->reset();
  // These are answered without it.
  good({kInquiry, 0, 0, 0, 96, 0});
  EXPECT_EQ(sense_of({kRead10, 0, 0, 0, 0, 0, 0, 0, 1, 0}), sense::kPowerOnOrReset);
  EXPECT_EQ(sense_of({kTestUnitReady, 0, 0, 0, 0, 0}), sense::kNone);
  unit_->attention(sense::kCapacityChanged);
  const auto pending = good({kRequestSense, 0, 0, 0, 18, 0});
  EXPECT_EQ(pending[2], 6);
  EXPECT_EQ(pending[12], 0x2A);
  EXPECT_EQ(good({kRequestSense, 0, 0, 0, 18, 0})[2], 0);
}

TEST_F(DiskTest, ReadsWithEveryLengthOfCommand) {
  create();
  const std::vector<Bytes> commands = {
      {kRead6, 0, 0, 5, kBlocks, 0},
      {kRead10, 0, 0, 0, 0, 5, 0, 0, kBlocks, 0},
      {kRead12, 0, 0, 0, 0, 5, 0, 0, 0, kBlocks, 0, 0},
      {kRead16, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, kBlocks, 0, 0}};
  for (const auto& cdb : commands) {
    const auto bytes = good(cdb);
    ASSERT_EQ(bytes.size(), 512u * kBlocks);
    for (size_t i = 0; i < bytes.size(); ++i)
      ASSERT_EQ(bytes[i], at(5 * 512 + i)) << int{cdb[0]} << " " << i;
  }
  // A count of 0 is 256 blocks with six bytes, and none with more.
  EXPECT_EQ(good({kRead6, 0, 0, 0, 0, 0}, 256 * 512).size(), 256u * 512);
  EXPECT_EQ(good({kRead10, 0, 0, 0, 0, 0, 0, 0, 0, 0}).size(), 0u);
}

TEST_F(DiskTest, WritesWithEveryLengthOfCommand) {
  create();
  uint8_t value = 0x40;
  const std::vector<Bytes> commands = {{kWrite6, 0, 0, 9, 2, 0},
                                       {kWrite10, 0, 0, 0, 0, 9, 0, 0, 2, 0},
                                       {kWriteAndVerify10, 0, 0, 0, 0, 9, 0, 0, 2, 0},
                                       {kWrite12, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0},
                                       {kWrite16, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0}};
  for (const auto& cdb : commands) {
    const auto ended = command(cdb, 0, Bytes(1024, ++value));
    EXPECT_EQ(ended.outcome.status, Status::kGood);
    EXPECT_EQ(ended.outcome.transferred, 1024u);
    EXPECT_EQ(at(9 * 512 - 1), static_cast<uint8_t>(8 * 7));
    EXPECT_EQ(at(9 * 512), value);
    EXPECT_EQ(at(11 * 512 - 1), value);
    EXPECT_EQ(at(11 * 512), static_cast<uint8_t>(11 * 7));
  }
}

TEST_F(DiskTest, ForcedUnitAccessAndWriteThroughFlushAfterTheWrite) {
  create();
  const Bytes data(512, 1);
  disk_->kinds.clear();
  command({kWrite10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, data);
  EXPECT_EQ(disk_->kinds, std::vector{Kind::kWrite});
  command({kWrite10, 0x08, 0, 0, 0, 0, 0, 0, 1, 0}, 0, data);
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kWrite, Kind::kWrite, Kind::kFlush}));
  // MODE SELECT turns the cache off.
  Bytes page = {0, 0, 0, 0, 0x08, 18};
  page.resize(4 + 20);
  EXPECT_EQ(sense_of({kModeSelect6, 0x10, 0, 0, 24, 0}, 0, page), sense::kNone);
  disk_->kinds.clear();
  command({kWrite10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, data);
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kWrite, Kind::kFlush}));
  // A reset brings the setting back.
  unit_->reset();
  clear_attention();
  EXPECT_EQ(good({kModeSense6, 0x08, 0x08, 0, 64, 0})[4 + 2] & 4, 4);
}

TEST_F(DiskTest, WhatDoesNotFitIsOutOfRange) {
  create();
  constexpr uint8_t kHigh = kBytes / 512 >> 8;
  EXPECT_EQ(sense_of({kRead10, 0, 0, 0, kHigh, 0, 0, 0, 1, 0}), sense::kBlockOutOfRange);
  EXPECT_EQ(sense_of({kRead10, 0, 0, 0, kHigh - 1, 0xFF, 0, 0, 2, 0}), sense::kBlockOutOfRange);
  EXPECT_EQ(
      sense_of({kRead16, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1, 0, 0}),
      sense::kBlockOutOfRange);
  EXPECT_EQ(sense_of({kVerify10, 0, 0, 0, kHigh, 0, 0, 0, 1, 0}), sense::kBlockOutOfRange);
  EXPECT_EQ(sense_of({kSynchronizeCache10, 0, 0, 0, kHigh, 0, 0, 0, 1, 0}),
            sense::kBlockOutOfRange);
  EXPECT_EQ(sense_of({kVerify10, 0, 0, 0, 0, 0, 0, 0, 8, 0}), sense::kNone);
  // Protection information is not there.
  EXPECT_EQ(sense_of({kRead10, 0x20, 0, 0, 0, 0, 0, 0, 1, 0}), sense::kInvalidFieldInCdb);
}

TEST_F(DiskTest, HostErrorsHaveTheirSense) {
  create();
  disk_->error = EIO;
  EXPECT_EQ(sense_of({kRead10, 0, 0, 0, 0, 0, 0, 0, 1, 0}), sense::kReadError);
  EXPECT_EQ(sense_of({kWrite10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, Bytes(512)), sense::kWriteError);
  disk_->error = ENOSPC;
  EXPECT_EQ(sense_of({kWrite10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, Bytes(512)), sense::kSpaceExhausted);
}

TEST_F(DiskTest, CapacityInBothForms) {
  create({.logical_block_size = 4096, .physical_block_size = 16384});
  EXPECT_EQ(good({kReadCapacity10, 0, 0, 0, 0, 0, 0, 0, 0, 0}), (Bytes{0, 0, 0, 255, 0, 0, 16, 0}));
  const auto bytes = good({kServiceActionIn16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0});
  ASSERT_EQ(bytes.size(), 32u);
  EXPECT_EQ(get_be<8>(bytes.data()), 255u);
  EXPECT_EQ(get_be<4>(&bytes[8]), 4096u);
  EXPECT_EQ(bytes[13], 2);
  EXPECT_EQ(bytes[14] & 0x80, 0x80);
  EXPECT_EQ(good({kRead10, 0, 0, 0, 0, 1, 0, 0, 1, 0}).size(), 4096u);
  EXPECT_EQ(sense_of({kServiceActionIn16, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}),
            sense::kInvalidOpcode);
}

TEST_F(DiskTest, UnmapDiscardsEachExtent) {
  create();
  Bytes list(8 + 32);
  put_be<2>(&list[0], 38);
  put_be<2>(&list[2], 32);
  put_be<8>(&list[8], 16);
  put_be<4>(&list[16], 8);
  put_be<8>(&list[24], 64);
  put_be<4>(&list[32], 1);
  EXPECT_EQ(sense_of({kUnmap, 0, 0, 0, 0, 0, 0, 0, 40, 0}, 0, list), sense::kNone);
  EXPECT_EQ(at(16 * 512), 0);
  EXPECT_EQ(at(24 * 512 - 1), 0);
  EXPECT_EQ(at(64 * 512), 0);
  EXPECT_EQ(at(65 * 512), static_cast<uint8_t>(65 * 7));
  EXPECT_EQ(sense_of({kUnmap, 1, 0, 0, 0, 0, 0, 0, 40, 0}, 0, list), sense::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of({kUnmap, 0, 0, 0, 0, 0, 0, 0, 60, 0}, 0, list), sense::kParameterListLength);
  put_be<2>(&list[2], 48);
  EXPECT_EQ(sense_of({kUnmap, 0, 0, 0, 0, 0, 0, 0, 40, 0}, 0, list),
            sense::kInvalidFieldInParameters);
  put_be<2>(&list[2], 32);
  put_be<8>(&list[8], kBytes / 512);
  EXPECT_EQ(sense_of({kUnmap, 0, 0, 0, 0, 0, 0, 0, 40, 0}, 0, list), sense::kBlockOutOfRange);
}

TEST_F(DiskTest, WriteSameRepeatsABlockOrZeroes) {
  create();
  Bytes pattern(512);
  for (size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<uint8_t>(i ^ 0x5A);
  EXPECT_EQ(sense_of({kWriteSame10, 0, 0, 0, 0, 10, 0, 0, 100, 0}, 0, pattern), sense::kNone);
  for (size_t i = 0; i < 100 * 512; ++i) ASSERT_EQ(at(10 * 512 + i), pattern[i % 512]);
  EXPECT_EQ(at(110 * 512), static_cast<uint8_t>(110 * 7));
  disk_->kinds.clear();
  EXPECT_EQ(
      sense_of({kWriteSame16, 0x08, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 4, 0, 0}, 0, Bytes(512)),
      sense::kNone);
  EXPECT_EQ(sense_of({kWriteSame16, 0x01, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 4, 0, 0}, 0),
            sense::kNone);  // without data
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kWriteZeroes, Kind::kWriteZeroes}));
  EXPECT_EQ(at(10 * 512), 0);
  EXPECT_EQ(at(23 * 512), 0);
  EXPECT_EQ(sense_of({kWriteSame10, 0, 0, 0, 0, 10, 0, 0, 0, 0}, 0, pattern),
            sense::kInvalidFieldInCdb);
}

TEST_F(DiskTest, ReadOnlyRefusesEveryChangeAndSaysSo) {
  create({}, true);
  EXPECT_EQ(sense_of({kWrite10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, Bytes(512)), sense::kWriteProtected);
  EXPECT_EQ(sense_of({kUnmap, 0, 0, 0, 0, 0, 0, 0, 8, 0}, 0, Bytes(8)), sense::kWriteProtected);
  EXPECT_EQ(sense_of({kWriteSame10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, Bytes(512)),
            sense::kWriteProtected);
  EXPECT_EQ(good({kModeSense6, 0, 0x3F, 0, 255, 0})[2] & 0x80, 0x80);
}

TEST_F(DiskTest, ModePagesAndWhatMayChange) {
  create();
  const auto all = good({kModeSense10, 0, 0x3F, 0, 0, 0, 0, 0x10, 0, 0});
  EXPECT_EQ(get_be<2>(all.data()), all.size() - 2);
  EXPECT_EQ(get_be<2>(&all[6]), 8u);
  EXPECT_EQ(get_be<4>(&all[8]) & 0xFFFFFF, kBytes / 512);
  const auto caching = good({kModeSense6, 0x08, 0x08, 0, 255, 0});
  EXPECT_EQ(caching.size(), 4u + 20);
  EXPECT_EQ(caching[6], 4);
  EXPECT_EQ(good({kModeSense6, 0x08, 0x48, 0, 255, 0})[6], 4);  // changeable
  EXPECT_EQ(sense_of({kModeSense6, 0, 0xC8, 0, 255, 0}), (Sense{5, 0x39, 0}));
  EXPECT_EQ(sense_of({kModeSense6, 0, 0x1C, 0, 255, 0}), sense::kInvalidFieldInCdb);
  Bytes page(24);
  page[4] = 0x08;
  page[5] = 18;
  page[6] = 1;  // RCD: cannot be set
  EXPECT_EQ(sense_of({kModeSelect6, 0x10, 0, 0, 24, 0}, 0, page), sense::kInvalidFieldInParameters);
  page[6] = 0;
  page[5] = 30;
  EXPECT_EQ(sense_of({kModeSelect6, 0x10, 0, 0, 24, 0}, 0, page), sense::kParameterListLength);
  EXPECT_EQ(sense_of({kModeSelect6, 0x11, 0, 0, 24, 0}, 0, page), sense::kInvalidFieldInCdb);
}

TEST_F(DiskTest, UnknownCommandsAreRefused) {
  create();
  for (const uint8_t opcode : Bytes{0x04, 0x5E, 0xAD, 0xFF})
    EXPECT_EQ(sense_of({opcode, 0, 0, 0, 0, 0}), sense::kInvalidOpcode);
}

TEST_F(DiskTest, TargetListsItsUnitsAndAnswersForThoseThatAreNot) {
  create();
  Target target;
  auto other = *Disk::create({}, *disk_);
  EXPECT_TRUE(target.add(300, *other));
  EXPECT_TRUE(target.add(0, *unit_));
  EXPECT_FALSE(target.add(0, *other));
  const auto ask = [&](uint16_t number, const Bytes& cdb) {
    Command request;
    std::ranges::copy(cdb, request.cdb.begin());
    Bytes in(64);
    request.data_in = {{in.data(), in.size()}};
    request.in_bytes = in.size();
    Ended ended;
    request.done = [&](const Outcome& got) { ended.outcome = got; };
    target.execute(number, std::move(request));
    in.resize(ended.outcome.transferred);
    ended.data = in;
    return ended;
  };
  EXPECT_EQ(ask(7, {kReportLuns, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}).data,
            (Bytes{0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x2C, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(ask(7, {kInquiry, 0, 0, 0, 36, 0}).data[0], 0x7F);
  EXPECT_EQ(ask(7, {kTestUnitReady}).outcome.sense, sense::kLogicalUnitNotSupported);
  EXPECT_EQ(ask(300, {kTestUnitReady}).outcome.sense, sense::kPowerOnOrReset);
  target.remove(300);
  EXPECT_EQ(ask(300, {kTestUnitReady}).outcome.sense, sense::kLogicalUnitNotSupported);
}

TEST_F(DiskTest, PropertiesOutOfRangeAreRefused) {
  virtio::MemoryDisk disk(kBytes);
  EXPECT_FALSE(Disk::create({.logical_block_size = 1000}, disk));
  EXPECT_FALSE(Disk::create({.logical_block_size = 4096, .physical_block_size = 512}, disk));
  EXPECT_FALSE(Disk::create({.identity = {.serial = std::string(37, 'x')}}, disk));
}

}  // namespace
}  // namespace limen::block::scsi
