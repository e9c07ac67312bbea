#include "virtio/block/block.h"

#include <cerrno>
#include <memory>

#include "memory_disk.h"
#include "test_driver.h"

namespace limen::virtio {
namespace {

using D = DriverQueue;
using Kind = block::Request::Kind;
constexpr uint64_t kReadOnly = 1 << 5, kFlush = 1 << 9, kConfigWce = 1 << 11, kMultiQueue = 1 << 12,
                   kDiscard = 1 << 13, kWriteZeroes = 1 << 14;
constexpr uint32_t kIn = 0, kOut = 1, kFlushRequest = 4, kGetId = 8, kDiscardRequest = 11,
                   kWriteZeroesRequest = 13;
constexpr size_t kDiskBytes = 1 << 20;
constexpr uint64_t kHeader = 0x6000, kStatus = 0x6100, kData = 0x8000;

struct Header {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
struct Range {
  uint64_t sector;
  uint32_t sectors;
  uint32_t flags;
};

class BlockTest : public VirtioTest {
 protected:
  void create(BlockProperties properties = {}, unsigned threads = 0, bool read_only = false) {
    disk_ = std::make_unique<MemoryDisk>(kDiskBytes, threads);
    disk_->is_read_only = read_only;
    for (size_t i = 0; i < kDiskBytes; ++i) disk_->bytes[i] = static_cast<std::byte>(i / 512);
    plug(*Block::create(properties, *disk_));
    enable_msix();
  }
  void start(uint64_t features = kFlush) {
    ASSERT_TRUE(negotiate(feature::kVersion1 | features));
    set_common(0x10, 2, 0);
    queue_ = std::make_unique<D>(enable_queue(0, 16));
    driver_ok();
  }
  void offer(uint32_t type, uint64_t sector, std::vector<D::Descriptor> data) {
    queue_->put(kHeader, Header{type, 0, sector});
    queue_->put<uint8_t>(kStatus, 0xEE);
    std::vector<D::Descriptor> chain{{kHeader, 16}};
    chain.insert(chain.end(), data.begin(), data.end());
    chain.push_back({kStatus, 1, D::kWrite});
    queue_->write_chain(0, chain);
    queue_->offer(0);
    kick(0);
  }
  /// The status byte of one request.
  unsigned request(uint32_t type, uint64_t sector, std::vector<D::Descriptor> data = {}) {
    const uint16_t before = queue_->used_index();
    offer(type, sector, std::move(data));
    EXPECT_EQ(queue_->used_index(), static_cast<uint16_t>(before + 1));
    length_ = queue_->used_entry(before).length;
    return queue_->get<uint8_t>(kStatus);
  }
  unsigned ranges(uint32_t type, const std::vector<Range>& list) {
    for (size_t i = 0; i < list.size(); ++i) queue_->put(kData + 16 * i, list[i]);
    return request(type, 0, {{kData, static_cast<uint32_t>(16 * list.size())}});
  }

  std::unique_ptr<MemoryDisk> disk_;
  std::unique_ptr<D> queue_;
  uint32_t length_ = 0;

  void TearDown() override { function_.reset(); }  // before the disk
};

TEST_F(BlockTest, ConfigurationDescribesTheDisk) {
  create({.num_queues = 3});
  EXPECT_EQ(function_->config_read(0x08, 4) >> 8, 0x010000u);
  EXPECT_EQ(device_config(0, 8), kDiskBytes / 512);
  EXPECT_EQ(device_config(12, 4), 254u) << "seg_max";
  EXPECT_EQ(device_config(20, 4), 512u) << "blk_size";
  EXPECT_EQ(device_config(32, 1), 1u) << "writeback";
  EXPECT_EQ(device_config(34, 2), 3u) << "num_queues";
  EXPECT_EQ(common(0x12, 2), 3u);
  EXPECT_EQ(device_config(56, 1), 1u) << "write_zeroes_may_unmap";
}

TEST_F(BlockTest, OffersWhatTheDiskCan) {
  create();
  EXPECT_EQ(offered() & (kReadOnly | kFlush | kConfigWce | kMultiQueue | kDiscard | kWriteZeroes),
            kFlush | kConfigWce | kDiscard | kWriteZeroes);
  disk_->can_discard = false;
  EXPECT_EQ(offered() & kDiscard, 0u);
  disk_->is_read_only = true;
  EXPECT_EQ(offered() & (kReadOnly | kWriteZeroes), kReadOnly);
}

TEST_F(BlockTest, Reads) {
  create();
  start();
  EXPECT_EQ(request(kIn, 3, {{kData, 512, D::kWrite}, {kData + 0x1000, 1024, D::kWrite}}), 0u);
  EXPECT_EQ(queue_->get<uint8_t>(kData), 3);
  EXPECT_EQ(queue_->get<uint8_t>(kData + 0x1000), 4);
  EXPECT_EQ(queue_->get<uint8_t>(kData + 0x1000 + 1023), 5);
  EXPECT_EQ(length_, 1537u);
  EXPECT_EQ(msi_.received(1), 1u);
}

TEST_F(BlockTest, Writes) {
  create();
  start();
  std::ranges::fill(memory_->span({kData}, 1024), std::byte{0x77});
  EXPECT_EQ(request(kOut, 10, {{kData, 1024}}), 0u);
  EXPECT_EQ(disk_->bytes[10 * 512], std::byte{0x77});
  EXPECT_EQ(disk_->bytes[12 * 512 - 1], std::byte{0x77});
  EXPECT_EQ(disk_->bytes[12 * 512], std::byte{12});
  EXPECT_EQ(length_, 1u);
}

TEST_F(BlockTest, DoesNotCareHowTheDriverCutsTheRequest) {
  create();
  start();
  // Header in three pieces that share descriptors with the data; status in the last data buffer.
  queue_->put(kData, Header{kOut, 0, 20});
  std::ranges::fill(memory_->span({kData + 16}, 512), std::byte{0x55});
  queue_->write_chain(0, {{kData, 3}, {kData + 3, 7}, {kData + 10, 518}, {kStatus, 1, D::kWrite}});
  queue_->put<uint8_t>(kStatus, 0xEE);
  queue_->offer(0);
  kick(0);
  EXPECT_EQ(queue_->get<uint8_t>(kStatus), 0);
  EXPECT_EQ(disk_->bytes[20 * 512], std::byte{0x55});
  EXPECT_EQ(disk_->bytes[21 * 512 - 1], std::byte{0x55});

  queue_->put(kHeader, Header{kIn, 0, 20});
  queue_->write_chain(0, {{kHeader, 16}, {kData, 200, D::kWrite}, {kData + 200, 313, D::kWrite}});
  queue_->put<uint8_t>(kData + 512, 0xEE);
  queue_->offer(0);
  kick(0);
  EXPECT_EQ(queue_->get<uint8_t>(kData + 511), 0x55);
  EXPECT_EQ(queue_->get<uint8_t>(kData + 512), 0) << "status";
}

TEST_F(BlockTest, RejectsRangesOutsideTheDisk) {
  create();
  start();
  const uint64_t last = kDiskBytes / 512 - 1;
  EXPECT_EQ(request(kIn, last, {{kData, 512, D::kWrite}}), 0u);
  EXPECT_EQ(request(kIn, last, {{kData, 1024, D::kWrite}}), 1u);
  EXPECT_EQ(request(kIn, last + 1, {{kData, 512, D::kWrite}}), 1u);
  EXPECT_EQ(request(kOut, ~0ull, {{kData, 512}}), 1u);
  EXPECT_EQ(request(kOut, ~0ull / 512, {{kData, 512}}), 1u);
  EXPECT_EQ(request(kOut, 0, {{kData, 100}}), 1u) << "not whole sectors";
  EXPECT_EQ(request(kIn, 0, {{kData, 513, D::kWrite}}), 1u);
}

TEST_F(BlockTest, ReadOnlyDiskRefusesWrites) {
  create({}, 0, true);
  start();
  EXPECT_EQ(request(kOut, 0, {{kData, 512}}), 1u);
  EXPECT_TRUE(disk_->kinds.empty());
  EXPECT_EQ(request(kIn, 0, {{kData, 512, D::kWrite}}), 0u);
}

TEST_F(BlockTest, TellsTheGuestOfAnError) {
  create();
  start();
  disk_->error = EIO;
  EXPECT_EQ(request(kIn, 0, {{kData, 512, D::kWrite}}), 1u);
  EXPECT_EQ(length_, 1u);
  disk_->error = ENOSPC;
  EXPECT_EQ(request(kOut, 0, {{kData, 512}}), 1u);
  disk_->error = EOPNOTSUPP;
  EXPECT_EQ(request(kFlushRequest, 0), 2u);
  disk_->error = 0;
  EXPECT_EQ(request(kOut, 0, {{kData, 512}}), 0u);
}

TEST_F(BlockTest, Flushes) {
  create();
  start();
  EXPECT_EQ(request(kFlushRequest, 0), 0u);
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kFlush}));
}

TEST_F(BlockTest, WritesThroughForADriverThatCannotFlush) {
  create();
  start(0);
  EXPECT_EQ(request(kOut, 0, {{kData, 512}}), 0u);
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kWrite, Kind::kFlush}));
}

TEST_F(BlockTest, WriteCacheIsTheDriversToTurnOff) {
  create();
  start(kFlush | kConfigWce);
  EXPECT_EQ(request(kOut, 0, {{kData, 512}}), 0u);
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kWrite}));
  mmio_.write(kRegisters + 0x2000 + 32, 1, 0);
  EXPECT_EQ(device_config(32, 1), 0u);
  EXPECT_EQ(request(kOut, 0, {{kData, 512}}), 0u);
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kWrite, Kind::kWrite, Kind::kFlush}));
  set_status(0);
  EXPECT_EQ(device_config(32, 1), 1u) << "reset restores it";
}

TEST_F(BlockTest, GivesItsSerialNumber) {
  create({.serial = "disk-0001"});
  start();
  std::ranges::fill(memory_->span({kData}, 32), std::byte{0xFF});
  EXPECT_EQ(request(kGetId, 0, {{kData, 20, D::kWrite}}), 0u);
  char serial[21] = {};
  std::memcpy(serial, memory_->span({kData}, 20).data(), 20);
  EXPECT_STREQ(serial, "disk-0001");
  EXPECT_EQ(queue_->get<uint8_t>(kData + 19), 0);
  EXPECT_EQ(queue_->get<uint8_t>(kData + 20), 0xFF);
}

TEST_F(BlockTest, DiscardsAndWritesZeroes) {
  create();
  start(kFlush | kDiscard | kWriteZeroes);
  EXPECT_EQ(ranges(kDiscardRequest, {{8, 8, 0}}), 0u);
  EXPECT_EQ(ranges(kWriteZeroesRequest, {{32, 2, 1}, {40, 1, 0}}), 0u);
  EXPECT_EQ(disk_->kinds, (std::vector{Kind::kDiscard, Kind::kWriteZeroes, Kind::kWriteZeroes}));
  EXPECT_EQ(disk_->bytes[33 * 512], std::byte{0});
  EXPECT_EQ(disk_->bytes[40 * 512], std::byte{0});
  EXPECT_EQ(disk_->bytes[41 * 512], std::byte{41});
}

TEST_F(BlockTest, RejectsBadDiscardRequests) {
  create();
  start(kFlush | kDiscard | kWriteZeroes);
  EXPECT_EQ(ranges(kDiscardRequest, {{0, 8, 1}}), 2u) << "discard has no unmap flag";
  EXPECT_EQ(ranges(kWriteZeroesRequest, {{0, 8, 2}}), 2u) << "reserved flag";
  EXPECT_EQ(ranges(kDiscardRequest, {{kDiskBytes / 512, 1, 0}}), 1u);
  EXPECT_EQ(ranges(kDiscardRequest, {{~0ull, 2, 0}}), 1u);
  EXPECT_EQ(ranges(kDiscardRequest, {{0, ~0u, 0}}), 1u);
  EXPECT_EQ(ranges(kDiscardRequest, std::vector<Range>(33, Range{0, 1, 0})), 2u);
  EXPECT_EQ(request(kDiscardRequest, 0, {{kData, 15}}), 2u);
  EXPECT_EQ(request(kDiscardRequest, 0), 2u);
  EXPECT_TRUE(disk_->kinds.empty());
}

TEST_F(BlockTest, DiscardNeedsItsFeature) {
  create();
  start();
  EXPECT_EQ(ranges(kDiscardRequest, {{0, 8, 0}}), 2u);
  EXPECT_EQ(ranges(kWriteZeroesRequest, {{0, 8, 0}}), 2u);
}

TEST_F(BlockTest, UnknownRequestsAreUnsupported) {
  create();
  start();
  EXPECT_EQ(request(99, 0), 2u);
}

TEST_F(BlockTest, StopsWhenARequestHasNoHeaderOrStatus) {
  create();
  start();
  queue_->write_chain(0, {{kHeader, 15}, {kStatus, 1, D::kWrite}});
  queue_->offer(0);
  kick(0);
  EXPECT_NE(status() & status::kNeedsReset, 0);
  start();
  queue_->put(kHeader, Header{kOut, 0, 0});
  queue_->write_chain(0, {{kHeader, 16}});
  queue_->offer(0);
  kick(0);
  EXPECT_NE(status() & status::kNeedsReset, 0);
  start();
  EXPECT_EQ(request(kIn, 0, {{kData, 512, D::kWrite}}), 0u);
}

TEST_F(BlockTest, ResetWaitsForWhatIsUnderWay) {
  create();
  start();
  disk_->hold = true;
  offer(kIn, 1, {{kData, 512, D::kWrite}});
  ASSERT_EQ(disk_->held(), 1u);
  std::atomic<bool> reset_done = false;
  std::thread vcpu([&] {
    set_status(0);
    reset_done = true;
  });
  while (status() != 0) std::this_thread::yield();
  EXPECT_FALSE(reset_done);
  disk_->finish_one();
  vcpu.join();
  EXPECT_TRUE(reset_done);
  EXPECT_EQ(queue_->used_index(), 0) << "the ring is the driver's again";
  disk_->hold = false;
  start();
  EXPECT_EQ(request(kIn, 1, {{kData, 512, D::kWrite}}), 0u);
}

TEST_F(BlockTest, ConcurrentCompletionsOnSeveralQueuesAllArrive) {
  constexpr unsigned kQueues = 2;
  constexpr uint16_t kSize = 64, kSlots = kSize / 4;
  constexpr unsigned kRequests = 4000;
  create({.num_queues = kQueues}, 3);
  ASSERT_TRUE(negotiate(feature::kVersion1 | feature::kEventIndex | kFlush | kMultiQueue));
  std::vector<D> queues;
  for (uint16_t i = 0; i < kQueues; ++i) queues.push_back(enable_queue(i, kSize));
  driver_ok();

  // Each driver thread keeps its ring full of reads of random sectors and waits for interrupts.
  const auto drive = [&](unsigned index) {
    D& queue = queues[index];
    const uint64_t area = 0x40'0000 + 0x40'0000ull * index;
    uint16_t seen = 0;
    unsigned offered = 0, finished = 0;
    std::vector<uint16_t> free;
    std::vector<uint64_t> sector(kSlots);
    for (uint16_t i = 0; i < kSlots; ++i) free.push_back(i);
    while (finished < kRequests) {
      bool added = false;
      while (!free.empty() && offered < kRequests) {
        const uint16_t slot = free.back();
        free.pop_back();
        const uint64_t base = area + 0x1000ull * slot;
        sector[slot] = (offered * 7919u) % (kDiskBytes / 512);
        queue.put(base, Header{kIn, 0, sector[slot]});
        queue.put<uint8_t>(base + 0x800, 0xEE);
        queue.put<uint8_t>(base + 0x200, 0);
        queue.write_chain(
            4u * slot, {{base, 16}, {base + 0x200, 512, D::kWrite}, {base + 0x800, 1, D::kWrite}});
        queue.offer(static_cast<uint16_t>(4 * slot));
        ++offered;
        added = true;
      }
      if (added) kick(index);
      const unsigned interrupts = msi_.received(index + 1);
      queue.set_used_event(seen);
      std::atomic_thread_fence(std::memory_order_seq_cst);
      if (queue.used_index() == seen) {
        msi_.wait(index + 1, interrupts + 1);
        if (HasFailure()) return;
      }
      for (const uint16_t now = queue.used_index(); seen != now; ++seen) {
        const auto slot = static_cast<uint16_t>(queue.used_entry(seen).id / 4);
        const uint64_t base = area + 0x1000ull * slot;
        EXPECT_EQ(queue.get<uint8_t>(base + 0x800), 0);
        EXPECT_EQ(queue.get<uint8_t>(base + 0x200), static_cast<uint8_t>(sector[slot]));
        free.push_back(slot);
        ++finished;
      }
    }
  };
  std::thread other([&] { drive(1); });
  drive(0);
  other.join();
  EXPECT_EQ(status() & status::kNeedsReset, 0);
  set_status(0);
}

TEST(BlockProperties, OutOfRangeAreRefusedByName) {
  MemoryDisk disk(4096);
  EXPECT_THAT(Block::create({.num_queues = 0}, disk).error().message,
              testing::HasSubstr("num-queues=0"));
  EXPECT_THAT(Block::create({.queue_size = 100}, disk).error().message,
              testing::HasSubstr("queue-size=100"));
  EXPECT_THAT(Block::create({.serial = "123456789012345678901"}, disk).error().message,
              testing::HasSubstr("20 bytes"));
}

}  // namespace
}  // namespace limen::virtio
