#include "virtio/scsi/scsi.h"

#include <memory>

#include "block/scsi/cd.h"
#include "block/scsi/disk.h"
#include "memory_disk.h"
#include "test_driver.h"

namespace limen::virtio {
namespace {

namespace scsi = block::scsi;
using D = DriverQueue;

constexpr uint64_t kHotplug = 1 << 1, kChange = 1 << 2;
constexpr size_t kDiskBytes = 1 << 20;
constexpr uint64_t kRequest = 0x40'0000, kResponse = 0x40'1000, kData = 0x41'0000,
                   kEvents = 0x42'0000;
constexpr uint32_t kRequestBytes = 19 + 32, kResponseBytes = 12 + 96;

struct Response {
  uint32_t sense_length;
  uint32_t residual;
  uint16_t qualifier;
  uint8_t status;
  uint8_t response;
  uint8_t sense[96];
};

class ScsiTest : public VirtioTest {
 protected:
  void create(ScsiProperties properties = {}, unsigned threads = 0) {
    disk_ = std::make_unique<MemoryDisk>(kDiskBytes, threads);
    for (size_t i = 0; i < kDiskBytes; ++i) disk_->bytes[i] = static_cast<std::byte>(i / 512);
    auto adapter = *Scsi::create(properties);
    adapter_ = adapter.get();
    EXPECT_TRUE(adapter_->add_unit(0, 0, *scsi::Disk::create({}, *disk_)));
    EXPECT_TRUE(adapter_->add_unit(0, 300, *scsi::Disk::create({}, *disk_)));
    plug(std::move(adapter));
    enable_msix();
  }
  void start() {
    ASSERT_TRUE(negotiate(feature::kVersion1 | kHotplug | kChange));
    control_ = std::make_unique<D>(enable_queue(0, 16));
    events_ = std::make_unique<D>(enable_queue(1, 16));
    queue_ = std::make_unique<D>(enable_queue(2, 16));
    driver_ok();
  }
  void put_request(uint64_t at, uint8_t target, uint16_t unit, uint64_t id,
                   const std::vector<uint8_t>& cdb) {
    std::vector<uint8_t> bytes(kRequestBytes);
    bytes[0] = 1;
    bytes[1] = target;
    bytes[2] = static_cast<uint8_t>(0x40 | unit >> 8);
    bytes[3] = static_cast<uint8_t>(unit);
    std::memcpy(&bytes[8], &id, 8);
    std::ranges::copy(cdb, bytes.begin() + 19);
    std::memcpy(memory_->span({at}, bytes.size()).data(), bytes.data(), bytes.size());
  }
  /// Starts a command with `in` bytes for reading or `out` bytes of data at kData.
  void offer(const std::vector<uint8_t>& cdb, uint32_t in, uint32_t out, uint8_t target = 0,
             uint16_t unit = 0, uint64_t id = 1, unsigned slot = 0) {
    const uint64_t request = kRequest + slot * 0x100, response = kResponse + slot * 0x100;
    put_request(request, target, unit, id, cdb);
    std::vector<D::Descriptor> chain{{request, kRequestBytes}};
    if (out != 0) chain.push_back({kData, out});
    chain.push_back({response, kResponseBytes, D::kWrite});
    if (in != 0) chain.push_back({kData, in, D::kWrite});
    queue_->write_chain(slot * 4, chain);
    queue_->offer(static_cast<uint16_t>(slot * 4));
    kick(2);
  }
  Response response(unsigned slot = 0) { return queue_->get<Response>(kResponse + slot * 0x100); }
  /// Runs a command that ends at once.
  Response command(const std::vector<uint8_t>& cdb, uint32_t in = 0, uint32_t out = 0,
                   uint8_t target = 0, uint16_t unit = 0) {
    const uint16_t before = queue_->used_index();
    offer(cdb, in, out, target, unit);
    EXPECT_EQ(queue_->used_index(), static_cast<uint16_t>(before + 1));
    return response();
  }
  void clear_attention(uint16_t unit = 0) {
    const auto got = command({scsi::kTestUnitReady}, 0, 0, 0, unit);
    EXPECT_EQ(got.status, 2);
    EXPECT_EQ(got.sense_length, 18u);
    EXPECT_EQ(got.sense[12], 0x29);
  }
  /// A task management function; its response, or 0xEE if it has not come.
  uint8_t manage(uint32_t function, uint8_t target, uint16_t unit, uint64_t id) {
    std::vector<uint8_t> bytes(24);
    std::memcpy(&bytes[4], &function, 4);
    bytes[8] = 1;
    bytes[9] = target;
    bytes[10] = static_cast<uint8_t>(0x40 | unit >> 8);
    bytes[11] = static_cast<uint8_t>(unit);
    std::memcpy(&bytes[16], &id, 8);
    std::memcpy(memory_->span({kEvents + 0x800}, 24).data(), bytes.data(), 24);
    control_->put<uint8_t>(kEvents + 0x900, 0xEE);
    control_->write_chain(0, {{kEvents + 0x800, 24}, {kEvents + 0x900, 1, D::kWrite}});
    control_->offer(0);
    kick(0);
    return control_->get<uint8_t>(kEvents + 0x900);
  }
  void TearDown() override { function_.reset(); }  // before the disk

  std::unique_ptr<MemoryDisk> disk_;
  Scsi* adapter_ = nullptr;
  std::unique_ptr<D> control_, events_, queue_;
};

TEST_F(ScsiTest, ConfigurationDescribesTheAdapter) {
  create({.num_queues = 3});
  EXPECT_EQ(function_->config_read(0x02, 2), 0x1048u);
  EXPECT_EQ(common(0x12, 2), 5u);
  EXPECT_EQ(device_config(0, 4), 3u);
  EXPECT_EQ(device_config(20, 4), 96u);
  EXPECT_EQ(device_config(24, 4), 32u);
  EXPECT_EQ(device_config(30, 2), 255u);
  EXPECT_EQ(offered() & 7, 7u);
}

TEST_F(ScsiTest, ReadsAndWrites) {
  create();
  start();
  clear_attention();
  auto got = command({scsi::kRead10, 0, 0, 0, 0, 5, 0, 0, 2, 0}, 1024);
  EXPECT_EQ(got.response, 0);
  EXPECT_EQ(got.status, 0);
  EXPECT_EQ(got.residual, 0u);
  EXPECT_EQ(queue_->used_entry(1).length, kResponseBytes + 1024);
  EXPECT_EQ(queue_->get<uint8_t>(kData), 5);
  EXPECT_EQ(queue_->get<uint8_t>(kData + 1023), 6);
  std::ranges::fill(memory_->span({kData}, 512), std::byte{0xAB});
  got = command({scsi::kWrite10, 0, 0, 0, 0, 9, 0, 0, 1, 0}, 0, 512);
  EXPECT_EQ(got.status, 0);
  EXPECT_EQ(disk_->bytes[9 * 512], std::byte{0xAB});
  EXPECT_EQ(disk_->bytes[10 * 512], std::byte{10});
  // Less than there is room for.
  got = command({scsi::kInquiry, 0, 0, 0, 36, 0}, 255);
  EXPECT_EQ(got.residual, 255u - 36);
}

TEST_F(ScsiTest, AddressesThatAreNotThereAreSaidSo) {
  create();
  start();
  EXPECT_EQ(command({scsi::kTestUnitReady}, 0, 0, 7).response, 3);
  clear_attention(300);
  EXPECT_EQ(command({scsi::kTestUnitReady}, 0, 0, 0, 300).status, 0);
  const auto absent = command({scsi::kTestUnitReady}, 0, 0, 0, 12);
  EXPECT_EQ(absent.response, 0);
  EXPECT_EQ(absent.sense[12], 0x25);
  EXPECT_EQ(command({scsi::kReportLuns, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, 64).residual, 64u - 24);
}

TEST_F(ScsiTest, BothDirectionsAtOnceFail) {
  create();
  start();
  EXPECT_EQ(command({scsi::kRead10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512, 512).response, 9);
}

TEST_F(ScsiTest, RequestWithoutRoomForAResponseStopsTheDevice) {
  create();
  start();
  put_request(kRequest, 0, 0, 1, {scsi::kTestUnitReady});
  queue_->write_chain(0, {{kRequest, kRequestBytes}, {kResponse, 50, D::kWrite}});
  queue_->offer(0);
  kick(2);
  EXPECT_NE(status() & status::kNeedsReset, 0);
}

TEST_F(ScsiTest, AbortIsDoneWhenTheCommandIs) {
  create();
  start();
  clear_attention();
  disk_->hold = true;
  offer({scsi::kRead10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512, 0, 0, 0, 77, 1);
  offer({scsi::kRead10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512, 0, 0, 0, 78, 2);
  EXPECT_EQ(manage(6, 0, 0, 77), 10);    // query task: it is there
  EXPECT_EQ(manage(6, 0, 0, 79), 0);     // and that one is not
  EXPECT_EQ(manage(0, 0, 0, 77), 0xEE);  // abort: waits
  disk_->finish_one();
  EXPECT_EQ(control_->get<uint8_t>(kEvents + 0x900), 0);
  EXPECT_EQ(response(1).response, 0);
  // A reset of the unit ends the other one as reset.
  EXPECT_EQ(manage(5, 0, 0, 0), 0xEE);
  disk_->finish_one();
  EXPECT_EQ(control_->get<uint8_t>(kEvents + 0x900), 0);
  EXPECT_EQ(response(2).response, 4);
  clear_attention();
  EXPECT_EQ(manage(5, 0, 12, 0), 12);  // no such unit
  EXPECT_EQ(manage(5, 9, 0, 0), 3);    // no such target
  EXPECT_EQ(manage(99, 0, 0, 0), 11);  // no such function
}

TEST_F(ScsiTest, UnitsThatComeGoAndChangeAreTold) {
  create();
  start();
  for (unsigned i = 0; i < 4; ++i) {
    events_->write_chain(i, {{kEvents + 32 * i, 16, D::kWrite}});
    events_->offer(static_cast<uint16_t>(i));
  }
  kick(1);
  EXPECT_EQ(events_->used_index(), 0);
  EXPECT_TRUE(adapter_->add_unit(5, 1, *scsi::Disk::create({}, *disk_)));
  EXPECT_FALSE(adapter_->add_unit(5, 1, *scsi::Disk::create({}, *disk_)));
  ASSERT_EQ(events_->used_index(), 1);
  EXPECT_EQ(events_->get<uint32_t>(kEvents), 1u);
  EXPECT_EQ(events_->get<uint8_t>(kEvents + 5), 5);
  EXPECT_EQ(events_->get<uint32_t>(kEvents + 12), 1u);  // rescan
  adapter_->unit_changed(0, 0, scsi::sense::kCapacityChanged);
  EXPECT_EQ(events_->get<uint32_t>(kEvents + 32), 3u);
  EXPECT_EQ(events_->get<uint32_t>(kEvents + 32 + 12), 0x092Au);
  EXPECT_TRUE(adapter_->remove_unit(5, 1));
  EXPECT_EQ(events_->get<uint32_t>(kEvents + 64 + 12), 2u);  // removed
  EXPECT_FALSE(adapter_->remove_unit(5, 1));
  EXPECT_EQ(command({scsi::kTestUnitReady}, 0, 0, 5, 1).response, 3);
  EXPECT_EQ(adapter_->free_target(), 1u);
  EXPECT_FALSE(adapter_->add_unit(256, 0, *scsi::Disk::create({}, *disk_)));
}

TEST_F(ScsiTest, EventsThatFindNoBufferWait) {
  create();
  start();
  for (int i = 0; i < 100; ++i) adapter_->unit_changed(0, 0, scsi::sense::kCapacityChanged);
  EXPECT_EQ(events_->used_index(), 0);
  for (unsigned i = 0; i < 16; ++i) {
    events_->write_chain(i, {{kEvents + 32 * i, 16, D::kWrite}});
    events_->offer(static_cast<uint16_t>(i));
  }
  kick(1);
  EXPECT_EQ(events_->used_index(), 16);
  // Some were lost, and that is said.
  EXPECT_EQ(events_->get<uint32_t>(kEvents), 0x8000'0003u);
}

TEST_F(ScsiTest, OnAnIoThreadAndManyAtOnce) {
  const auto thread = *LoopThread::create("io");
  create({.thread = thread.get()}, 2);
  start();
  offer({scsi::kTestUnitReady}, 0, 0);
  msi_.wait(3, 1);
  for (unsigned slot = 0; slot < 4; ++slot)
    offer({scsi::kRead10, 0, 0, 0, 0, static_cast<uint8_t>(slot), 0, 0, 1, 0}, 512, 0, 0, 0, slot,
          slot);
  for (unsigned i = 0; queue_->used_index() < 5 && i < 20'000; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(queue_->used_index(), 5);
  function_.reset();
}

TEST_F(ScsiTest, ResetWaitsForWhatIsUnderWay) {
  create();
  start();
  clear_attention();
  disk_->hold = true;
  offer({scsi::kRead10, 0, 0, 0, 0, 0, 0, 0, 1, 0}, 512, 0);
  std::atomic<bool> was_reset = false;
  std::thread driver([&] {
    set_status(0);
    was_reset = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(was_reset);
  disk_->finish_one();
  driver.join();
  EXPECT_TRUE(was_reset);
}

}  // namespace
}  // namespace limen::virtio
