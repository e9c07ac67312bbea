#include "virtio/balloon/balloon.h"

#include <sys/stat.h>

#include "test_driver.h"

namespace limen::virtio {
namespace {

using D = DriverQueue;

constexpr uint64_t kDeflateOnOom = 1 << 2, kStatisticsQueue = 1 << 1, kReporting = 1 << 5;

class BalloonTest : public VirtioTest {
 protected:
  void create(const BalloonProperties& properties) {
    loop_ = *EventLoop::create();
    auto device = std::make_unique<Balloon>(properties, *memory_, *loop_);
    balloon_ = device.get();
    plug(std::move(device));
    enable_msix();
    ASSERT_TRUE(negotiate(feature::kVersion1 | (offered() & 0xFF)));
    for (uint16_t i = 0; i < balloon_->queue_count(); ++i)
      queues_.push_back(std::make_unique<D>(enable_queue(i, 8)));
    set_common(0x10, 2, 0);  // vector 0: the configuration changed
    driver_ok();
  }
  void send(unsigned queue, uint64_t address, uint32_t size, uint16_t flags = 0) {
    queues_[queue]->write_chain(0, {{address, size, flags}});
    queues_[queue]->offer(0);
    kick(queue);
  }
  void TearDown() override { function_.reset(); }  // before the loop
  /// Bytes that the host holds for the guest's RAM.
  uint64_t held() const {
    struct stat status {};
    EXPECT_EQ(::fstat(memory_->fd(), &status), 0);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }

  std::unique_ptr<EventLoop> loop_;
  Balloon* balloon_ = nullptr;
  std::vector<std::unique_ptr<D>> queues_;
};

TEST_F(BalloonTest, OffersWhatItWasAskedFor) {
  create({});
  EXPECT_EQ(offered() & 0xFF, kStatisticsQueue);
  EXPECT_EQ(balloon_->queue_count(), 3u);
}

TEST_F(BalloonTest, OffersEverything) {
  create({.deflate_on_oom = true, .free_page_reporting = true});
  EXPECT_EQ(offered() & 0xFF, kStatisticsQueue | kDeflateOnOom | kReporting);
  EXPECT_EQ(balloon_->queue_count(), 4u);
}

TEST_F(BalloonTest, TellsTheDriverOfItsTarget) {
  create({});
  EXPECT_EQ(device_config(0, 4), 0u);
  ASSERT_TRUE(balloon_->set_target(kRamSize - (4 << 20)));
  EXPECT_EQ(device_config(0, 4), 1024u);
  EXPECT_EQ(msi_.received(0), 1u);
  EXPECT_FALSE(balloon_->set_target(kRamSize + 4096));
  EXPECT_FALSE(balloon_->set_target(0));
}

TEST_F(BalloonTest, KnowsWhatTheGuestKeeps) {
  create({});
  EXPECT_EQ(balloon_->actual(), kRamSize);
  uint64_t told = 0;
  balloon_->set_listener([&](uint64_t actual) { told = actual; });
  mmio_.write(kRegisters + 0x2000 + 4, 4, 256);
  EXPECT_EQ(balloon_->actual(), kRamSize - (1 << 20));
  EXPECT_EQ(told, balloon_->actual());
  mmio_.write(kRegisters + 0x2000, 4, 99);
  EXPECT_EQ(device_config(0, 4), 0u) << "the target is the host's";
  // More than there is: a lie.
  mmio_.write(kRegisters + 0x2000 + 4, 4, 0xFFFFFFFF);
  EXPECT_EQ(balloon_->actual(), 0u);
  set_status(0);
  EXPECT_EQ(balloon_->actual(), kRamSize);
}

TEST_F(BalloonTest, InflatingGivesMemoryBackToTheHost) {
  create({});
  constexpr uint64_t kStart = 8 << 20, kSize = 4 << 20;
  std::ranges::fill(memory_->span({kStart}, kSize), std::byte{7});
  const uint64_t before = held();
  // Downwards, as some drivers name them, with one in the middle left out.
  std::vector<uint32_t> pages;
  for (uint32_t page = (kStart + kSize) >> 12; page-- > kStart >> 12;)
    if (page != (kStart >> 12) + 100) pages.push_back(page);
  std::ranges::copy(std::as_bytes(std::span(pages)),
                    memory_->span({0x10'0000}, pages.size() * 4).begin());
  send(0, 0x10'0000, static_cast<uint32_t>(pages.size() * 4));
  EXPECT_EQ(queues_[0]->used_index(), 1);
  EXPECT_EQ(msi_.received(1), 1u);
  EXPECT_LE(held(), before - kSize + (2 << 20)) << "at most a huge page of it is left";
  EXPECT_EQ(queues_[0]->get<uint8_t>(kStart), 0);
  EXPECT_EQ(queues_[0]->get<uint8_t>(kStart + 99 * 4096), 0);
  EXPECT_EQ(queues_[0]->get<uint8_t>(kStart + 100 * 4096), 7);
  // And what comes back can be used.
  send(1, 0x10'0000, 4);
  EXPECT_EQ(queues_[1]->used_index(), 1);
  queues_[0]->put<uint64_t>(kStart, 5);
  EXPECT_EQ(queues_[0]->get<uint64_t>(kStart), 5u);
}

TEST_F(BalloonTest, InflatingTakesTheCodeOfAPageWithIt) {
  create({});
  memory_->code_page_marks()[0x800] = true;
  const uint32_t before = memory_->code_generations()[0x800];
  queues_[0]->put<uint32_t>(0x10'0000, 0x800);
  send(0, 0x10'0000, 4);
  EXPECT_NE(memory_->code_generations()[0x800], before);
}

TEST_F(BalloonTest, PagesThatAreNoRamAreLeftAlone) {
  create({});
  queues_[0]->put<uint32_t>(0x10'0000, 0xFFFFFFFF);
  queues_[0]->put<uint32_t>(0x10'0004, kRamSize >> 12);
  queues_[0]->put<uint32_t>(0x10'0008, (kRamSize >> 12) - 1);
  queues_[0]->put<uint32_t>(kRamSize - 4, 9);
  send(0, 0x10'0000, 15);  // and half a number
  EXPECT_EQ(queues_[0]->used_index(), 1);
  EXPECT_EQ(queues_[0]->get<uint32_t>(kRamSize - 4), 0u);
}

TEST_F(BalloonTest, ReportedPagesAreGivenBack) {
  create({.free_page_reporting = true});
  std::ranges::fill(memory_->span({8 << 20}, 4 << 20), std::byte{7});
  const uint64_t before = held();
  send(3, 8 << 20, 4 << 20, D::kWrite);
  EXPECT_EQ(queues_[3]->used_index(), 1);
  EXPECT_LE(held(), before - (4 << 20));
}

TEST_F(BalloonTest, CollectsStatistics) {
  create({});
  const auto put = [&](unsigned index, uint16_t tag, uint64_t value) {
    queues_[2]->put<uint16_t>(0x10'0000 + index * 10, tag);
    queues_[2]->put<uint64_t>(0x10'0000 + index * 10 + 2, value);
  };
  put(0, 4, 1234);
  put(1, 5, 5678);
  put(2, 999, 1);
  send(2, 0x10'0000, 30);
  EXPECT_EQ(queues_[2]->used_index(), 0) << "the buffer stays until more is wanted";
  auto statistics = balloon_->statistics();
  EXPECT_EQ(statistics.values.size(), 2u);
  EXPECT_EQ(statistics.values[BalloonStatistic::kFreeMemory], 1234u);
  EXPECT_EQ(statistics.values[BalloonStatistic::kTotalMemory], 5678u);
  EXPECT_GT(statistics.last_update, 0);
  balloon_->set_polling_interval(std::chrono::seconds(1));
  std::thread runner([this] { loop_->run(); });
  msi_.wait(3, 1);
  EXPECT_EQ(queues_[2]->used_index(), 1);
  put(0, 4, 99);
  send(2, 0x10'0000, 10);
  EXPECT_EQ(balloon_->statistics().values.at(BalloonStatistic::kFreeMemory), 99u);
  balloon_->set_polling_interval(std::chrono::seconds(0));
  loop_->stop();
  runner.join();
}

}  // namespace
}  // namespace limen::virtio
