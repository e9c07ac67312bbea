#include "block/scsi/cd.h"

#include "block/scsi/unit_fixture.h"

namespace limen::block::scsi {
namespace {

constexpr size_t kSectors = 400;
constexpr uint8_t kEject = 2, kLoad = 3;

class CdTest : public UnitTest {
 protected:
  CdTest() {
    disk_ = std::make_unique<virtio::MemoryDisk>(kSectors * 2048);
    disk_->is_read_only = true;
    for (size_t i = 0; i < disk_->bytes.size(); ++i)
      disk_->bytes[i] = static_cast<std::byte>(i / 2048);
  }
  void create(bool with_image = true) {
    auto cd = *Cd::create({}, with_image ? disk_.get() : nullptr,
                          [this](bool open) { moves_.push_back(open); });
    cd_ = cd.get();
    unit_ = std::move(cd);
    clear_attention();
  }
  Sense start_stop(uint8_t bits) { return sense_of({kStartStopUnit, 0, 0, 0, bits, 0}); }
  Sense ready() { return sense_of({kTestUnitReady, 0, 0, 0, 0, 0}); }
  /// Event and status of the medium, as polled.
  std::pair<int, int> event() {
    const auto bytes = good({kGetEventStatus, 1, 0, 0, 0x10, 0, 0, 0, 8, 0});
    EXPECT_EQ(bytes.size(), 8u);
    return {bytes[4], bytes[5]};
  }

  Cd* cd_ = nullptr;
  std::vector<bool> moves_;
};

TEST_F(CdTest, IsARemovableDriveOf2048ByteBlocks) {
  create();
  const auto inquiry = good({kInquiry, 0, 0, 0, 96, 0});
  EXPECT_EQ(inquiry[0], 5);
  EXPECT_EQ(inquiry[1], 0x80);
  EXPECT_EQ(good({kReadCapacity10, 0, 0, 0, 0, 0, 0, 0, 0, 0}), (Bytes{0, 0, 1, 0x8F, 0, 0, 8, 0}));
  const auto block = good({kRead10, 0, 0, 0, 0, 9, 0, 0, 1, 0});
  EXPECT_EQ(block, Bytes(2048, 9));
  EXPECT_EQ(good({kReadCd, 0, 0, 0, 0, 9, 0, 0, 1, 0x10, 0, 0}), Bytes(2048, 9));
  EXPECT_EQ(sense_of({kReadCd, 0, 0, 0, 0, 9, 0, 0, 1, 0xF8, 0, 0}), sense::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of({kReadCd, 1 << 2, 0, 0, 0, 9, 0, 0, 1, 0x10, 0, 0}),
            sense::kIllegalModeForTrack);
  EXPECT_EQ(sense_of({kRead10, 0, 0, 0, 1, 0x90, 0, 0, 1, 0}), sense::kBlockOutOfRange);
  EXPECT_EQ(sense_of({kWrite10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 0, Bytes(2048)), sense::kInvalidOpcode);
}

TEST_F(CdTest, TableOfContents) {
  create();
  EXPECT_EQ(good({kReadToc, 0, 0, 0, 0, 0, 0, 0, 64, 0}),
            (Bytes{0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xAA, 0, 0, 0, 1, 0x90}));
  // In minutes, seconds and frames: block 400 is 2 seconds further on.
  EXPECT_EQ(good({kReadToc, 2, 0, 0, 0, 0, 0xAA, 0, 64, 0}),
            (Bytes{0, 10, 1, 1, 0, 0x14, 0xAA, 0, 0, 0, 7, 25}));
  EXPECT_EQ(good({kReadToc, 0, 1, 0, 0, 0, 0, 0, 64, 0}).size(), 12u);
  EXPECT_EQ(good({kReadToc, 0, 2, 0, 0, 0, 0, 0, 64, 0}).size(), 4u + 4 * 11);
  EXPECT_EQ(sense_of({kReadToc, 0, 0, 0, 0, 0, 9, 0, 64, 0}), sense::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of({kReadToc, 0, 5, 0, 0, 0, 0, 0, 64, 0}), sense::kInvalidFieldInCdb);
}

TEST_F(CdTest, EmptyDriveIsNotReady) {
  create(false);
  EXPECT_EQ(ready(), sense::kNoMedium);
  EXPECT_EQ(sense_of({kRead10, 0, 0, 0, 0, 0, 0, 0, 1, 0}), sense::kNoMedium);
  EXPECT_EQ(sense_of({kReadToc, 0, 0, 0, 0, 0, 0, 0, 64, 0}), sense::kNoMedium);
  EXPECT_EQ(good({kGetConfiguration, 0, 0, 0, 0, 0, 0, 0, 64, 0})[7], 0);
  EXPECT_TRUE(cd_->change_medium(disk_.get()));
  EXPECT_EQ(ready(), sense::kMediumMayHaveChanged);
  EXPECT_EQ(ready(), sense::kNone);
  EXPECT_EQ(event(), std::pair(2, 2));  // new medium, once
  EXPECT_EQ(event(), std::pair(0, 2));
  EXPECT_EQ(good({kGetConfiguration, 0, 0, 0, 0, 0, 0, 0, 64, 0})[7], 8);
}

TEST_F(CdTest, GuestEjectsAndLoads) {
  create();
  EXPECT_EQ(start_stop(kEject), sense::kNone);
  EXPECT_EQ(ready(), sense::kNoMediumTrayOpen);
  EXPECT_EQ(event(), std::pair(3, 1));
  EXPECT_EQ(start_stop(kLoad), sense::kNone);
  EXPECT_EQ(ready(), sense::kMediumMayHaveChanged);
  EXPECT_EQ(good({kRead10, 0, 0, 0, 0, 1, 0, 0, 1, 0}), Bytes(2048, 1));
  EXPECT_EQ(moves_, (std::vector{true, false}));
}

TEST_F(CdTest, LockKeepsTheMediumInUnlessForced) {
  create();
  good({kPreventAllowMediumRemoval, 0, 0, 0, 1, 0});
  EXPECT_EQ(start_stop(kEject), sense::kMediumRemovalPrevented);
  EXPECT_TRUE(cd_->locked());
  EXPECT_FALSE(cd_->open_tray(false));
  EXPECT_EQ(event(), std::pair(1, 2));  // the guest is asked
  EXPECT_TRUE(cd_->open_tray(true));
  EXPECT_TRUE(cd_->tray_open());
  unit_->reset();
  EXPECT_FALSE(cd_->locked());
}

TEST_F(CdTest, PersonChangesTheMedium) {
  create();
  virtio::MemoryDisk other(10 * 2048);
  EXPECT_FALSE(cd_->change_medium(&other));  // the tray is closed
  EXPECT_TRUE(cd_->open_tray(false));
  EXPECT_TRUE(cd_->change_medium(&other));
  EXPECT_EQ(ready(), sense::kNoMediumTrayOpen);
  cd_->close_tray();
  EXPECT_EQ(ready(), sense::kMediumMayHaveChanged);
  EXPECT_EQ(get_be<4>(good({kReadCapacity10, 0, 0, 0, 0, 0, 0, 0, 0, 0}).data()), 9u);
  EXPECT_TRUE(cd_->open_tray(false));
  EXPECT_TRUE(cd_->change_medium(nullptr));
  cd_->close_tray();
  EXPECT_EQ(ready(), sense::kNoMedium);
}

TEST_F(CdTest, ChangingWaitsForWhatIsUnderWay) {
  create();
  disk_->hold = true;
  EXPECT_TRUE(cd_->open_tray(false));
  cd_->close_tray();
  EXPECT_EQ(ready(), sense::kMediumMayHaveChanged);
  Bytes in(2048);
  Command read;
  read.cdb = {kRead10, 0, 0, 0, 0, 3, 0, 0, 1, 0};
  read.data_in = {{in.data(), in.size()}};
  read.in_bytes = in.size();
  std::atomic<bool> done = false;
  read.done = [&](const Outcome&) { done = true; };
  unit_->execute(std::move(read));
  EXPECT_TRUE(cd_->open_tray(false));
  std::thread changing([&] {
    EXPECT_TRUE(cd_->change_medium(nullptr));
    EXPECT_TRUE(done);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  disk_->finish_one();
  changing.join();
  EXPECT_EQ(in, Bytes(2048, 3));
}

TEST_F(CdTest, ConfigurationAndStatus) {
  create();
  const auto all = good({kGetConfiguration, 0, 0, 0, 0, 0, 0, 1, 0, 0});
  EXPECT_EQ(get_be<4>(all.data()), all.size() - 4);
  const auto one = good({kGetConfiguration, 2, 0, 3, 0, 0, 0, 1, 0, 0});
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(one[9], 3);
  EXPECT_EQ(sense_of({kGetConfiguration, 3, 0, 0, 0, 0, 0, 1, 0, 0}), sense::kInvalidFieldInCdb);
  EXPECT_EQ(sense_of({kGetEventStatus, 0, 0, 0, 0x10, 0, 0, 0, 8, 0}), sense::kInvalidFieldInCdb);
  EXPECT_EQ(good({kGetEventStatus, 1, 0, 0, 0x40, 0, 0, 0, 8, 0})[2], 0x80);
  EXPECT_EQ(good({kMechanismStatus, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0}).size(), 8u);
  EXPECT_EQ(good({kReadDiscInformation, 0, 0, 0, 0, 0, 0, 0, 34, 0}).size(), 34u);
  EXPECT_EQ(get_be<4>(&good({kReadTrackInformation, 1, 0, 0, 0, 1, 0, 0, 36, 0})[24]), kSectors);
  const auto capabilities = good({kModeSense10, 0, 0x2A, 0, 0, 0, 0, 0, 64, 0});
  EXPECT_EQ(capabilities[8], 0x2A);
  EXPECT_EQ(capabilities.size(), 8u + 22);
}

}  // namespace
}  // namespace limen::block::scsi
