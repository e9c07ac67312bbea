#include "virtio/entropy/entropy.h"

#include "test_driver.h"

namespace limen::virtio {
namespace {

using D = DriverQueue;

class EntropyTest : public VirtioTest {
 protected:
  void create(const EntropyProperties& properties) {
    loop_ = *EventLoop::create();
    plug(*Entropy::create(properties, *loop_));
    enable_msix();
    ASSERT_TRUE(negotiate(feature::kVersion1));
    queue_ = std::make_unique<D>(enable_queue(0, 8));
    driver_ok();
  }
  void ask(uint32_t bytes) {
    queue_->write_chain(0, {{0x8000, bytes, D::kWrite}});
    queue_->offer(0);
    kick(0);
  }
  void TearDown() override { function_.reset(); }  // before the loop
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<D> queue_;
};

TEST_F(EntropyTest, FillsTheBufferAndNothingElse) {
  create({});
  ask(64);
  EXPECT_EQ(queue_->used_entry(0).length, 64u);
  EXPECT_NE(queue_->get<uint64_t>(0x8000), 0u);
  EXPECT_NE(queue_->get<uint64_t>(0x8000), queue_->get<uint64_t>(0x8038));
  EXPECT_EQ(queue_->get<uint64_t>(0x8040), 0u);
  EXPECT_EQ(msi_.received(1), 1u);
}

TEST_F(EntropyTest, ABigRequestIsAnsweredInPart) {
  create({});
  ask(1 << 20);
  EXPECT_EQ(queue_->used_entry(0).length, 64u * 1024);
}

TEST_F(EntropyTest, KeepsToItsRateAndGoesOnInTheNextPeriod) {
  create({.max_bytes = 10, .period_milliseconds = 1});
  ask(8);
  EXPECT_EQ(queue_->used_entry(0).length, 8u);
  ask(8);
  EXPECT_EQ(queue_->used_entry(1).length, 2u);
  ask(8);
  EXPECT_EQ(queue_->used_index(), 2) << "nothing left in this period";
  std::thread runner([this] { loop_->run(); });
  msi_.wait(1, 3);
  loop_->stop();
  runner.join();
  EXPECT_EQ(queue_->used_entry(2).length, 8u);
}

TEST_F(EntropyTest, ResettingTheDeviceDoesNotRefillTheQuota) {
  create({.max_bytes = 10, .period_milliseconds = 60'000});
  ask(10);
  ASSERT_TRUE(negotiate(feature::kVersion1));
  queue_ = std::make_unique<D>(enable_queue(0, 8));
  driver_ok();
  ask(10);
  EXPECT_EQ(queue_->used_index(), 0);
}

TEST(EntropyProperties, ZeroIsRefused) {
  auto loop = *EventLoop::create();
  EXPECT_FALSE(Entropy::create({.max_bytes = 0}, *loop));
  EXPECT_FALSE(Entropy::create({.period_milliseconds = 0}, *loop));
}

}  // namespace
}  // namespace limen::virtio
