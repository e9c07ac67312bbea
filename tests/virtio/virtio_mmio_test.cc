#include "virtio/virtio_mmio.h"

#include <unistd.h>

#include <map>

#include "echo_device.h"
#include "test_driver.h"

namespace limen::virtio {
namespace {

constexpr uint64_t kBase = 0xFEB0'0000;

/// Counts rising edges, as an 8259 sees a line.
struct EdgeLine final : irq::InterruptSink {
  void set_line(unsigned, bool to) override {
    if (to && !level) ++edges;
    level = to;
  }
  bool level = false;
  unsigned edges = 0;
};

class VirtioMmioTest : public testing::Test {
 protected:
  VirtioMmioTest() {
    const memory::GuestMemory::Layout layout{{0}, kRamSize};
    memory_ = *memory::GuestMemory::create(std::span(&layout, 1));
    auto device = std::make_unique<EchoDevice>();
    device_ = device.get();
    transport_ = std::make_unique<VirtioMmio>("virtio-test", std::move(device), *memory_, mmio_,
                                              kBase, irq::InterruptLine(line_, 0));
  }
  uint32_t get(uint64_t offset) { return static_cast<uint32_t>(mmio_.read(kBase + offset, 4)); }
  void set(uint64_t offset, uint32_t value) { mmio_.write(kBase + offset, 4, value); }
  void negotiate() {
    set(0x70, 0);
    set(0x70, status::kAcknowledge | status::kDriver);
    set(0x24, 1);
    set(0x20, feature::kVersion1 >> 32);
    set(0x70, get(0x70) | status::kFeaturesOk);
  }
  DriverQueue enable_queue(unsigned index) {
    set(0x30, index);
    set(0x38, 8);
    DriverQueue queue(*memory_, 0x10000, 8);
    set(0x80, static_cast<uint32_t>(queue.base));
    set(0x84, 0);
    set(0x90, static_cast<uint32_t>(queue.available()));
    set(0x94, 0);
    set(0xA0, static_cast<uint32_t>(queue.used()));
    set(0xA4, 0);
    set(0x44, 1);
    return queue;
  }
  DriverQueue start() {
    negotiate();
    auto queue = enable_queue(0);
    set(0x70, get(0x70) | status::kDriverOk);
    return queue;
  }
  void echo(DriverQueue& queue) {
    queue.put<uint32_t>(0x8000, 0xCAFE'F00D);
    queue.put<uint32_t>(0x9000, 0);
    queue.write_chain(0, {{0x8000, 4, 0}, {0x9000, 4, DriverQueue::kWrite}});
    queue.offer(0);
    set(0x50, 0);
  }

  std::unique_ptr<memory::GuestMemory> memory_;
  memory::IoSpace mmio_{"mmio"};
  EdgeLine line_;
  EchoDevice* device_ = nullptr;
  std::unique_ptr<VirtioMmio> transport_;
};

TEST_F(VirtioMmioTest, IsOfVersionTwo) {
  EXPECT_EQ(get(0x000), 0x7472'6976u);
  EXPECT_EQ(get(0x004), 2u);
  EXPECT_EQ(get(0x008), 2u);
  EXPECT_EQ(get(0x034), 64u);
  set(0x30, 2);
  EXPECT_EQ(get(0x034), 0u) << "there is no queue 2";
}

TEST_F(VirtioMmioTest, OffersFeaturesByHalves) {
  set(0x14, 0);
  EXPECT_EQ(get(0x10), EchoDevice::kFeature | feature::kIndirectDescriptors | feature::kEventIndex);
  set(0x14, 1);
  EXPECT_EQ(get(0x10), feature::kVersion1 >> 32);
  set(0x14, 2);
  EXPECT_EQ(get(0x10), 0u);
}

TEST_F(VirtioMmioTest, ServesAQueueAndInterrupts) {
  auto queue = start();
  EXPECT_EQ(get(0x44), 1u);
  echo(queue);
  EXPECT_EQ(queue.used_index(), 1);
  EXPECT_EQ(queue.get<uint32_t>(0x9000), 0xCAFE'F00D);
  EXPECT_TRUE(line_.level);
  EXPECT_EQ(get(0x60), 1u);
  set(0x64, 1);
  EXPECT_EQ(get(0x60), 0u);
  EXPECT_FALSE(line_.level);
}

TEST_F(VirtioMmioTest, WhatIsLeftAfterAnAcknowledgementIsAnEdgeOfItsOwn) {
  auto queue = start();
  echo(queue);
  device_->transport->configuration_changed();
  EXPECT_EQ(get(0x60), 3u);
  EXPECT_EQ(line_.edges, 1u);
  set(0x64, 1);
  EXPECT_EQ(get(0x60), 2u);
  EXPECT_EQ(line_.edges, 2u);
  EXPECT_EQ(get(0xFC), 1u);
}

TEST_F(VirtioMmioTest, AQueueCanBeTakenBack) {
  auto queue = start();
  EXPECT_EQ(device_->stops, 0u);
  set(0x44, 0);
  EXPECT_EQ(get(0x44), 0u);
  EXPECT_EQ(device_->stops, 1u);
  echo(queue);
  EXPECT_EQ(queue.used_index(), 0);
}

TEST_F(VirtioMmioTest, ResetForgetsEverything) {
  auto queue = start();
  echo(queue);
  set(0x70, 0);
  EXPECT_EQ(get(0x70), 0u);
  EXPECT_EQ(get(0x60), 0u);
  EXPECT_EQ(get(0x44), 0u);
  EXPECT_FALSE(line_.level);
  EXPECT_GE(device_->resets, 1u);
}

TEST_F(VirtioMmioTest, RegistersTakeWordsAlone) {
  EXPECT_EQ(mmio_.read(kBase, 1), 0u);
  EXPECT_EQ(mmio_.read(kBase, 8), 0u);
  negotiate();
  mmio_.write(kBase + 0x70, 1, 0);
  EXPECT_NE(get(0x70), 0u);
}

TEST_F(VirtioMmioTest, ConfigurationTakesAnyWidth) {
  mmio_.write(kBase + 0x100, 1, 0x12);
  mmio_.write(kBase + 0x102, 2, 0x5634);
  EXPECT_EQ(get(0x100), 0x5634'0012u);
  EXPECT_EQ(mmio_.read(kBase + 0x103, 1), 0x56u);
}

TEST_F(VirtioMmioTest, ARingThatIsBrokenStopsTheDevice) {
  auto queue = start();
  queue.set_available_index(1000);
  set(0x50, 0);
  EXPECT_NE(get(0x70) & status::kNeedsReset, 0u);
  EXPECT_EQ(get(0x60), 2u);
  EXPECT_EQ(device_->stops, 1u);
}

/// Notes who has doorbells where.
struct NotingTaker final : memory::DoorbellTaker {
  void take(uint64_t address, const memory::Doorbell& doorbell) override {
    taken.emplace(address | *doorbell.value << 48, doorbell);
  }
  void give_back(uint64_t address, const memory::Doorbell& doorbell) override {
    taken.erase(address | *doorbell.value << 48);
  }
  std::map<uint64_t, memory::Doorbell> taken;
};

TEST_F(VirtioMmioTest, NotificationsComeAsEventsWhereSomebodyTakesThem) {
  NotingTaker taker;
  mmio_.set_doorbell_taker(&taker);
  const auto loop = *EventLoop::create();
  ASSERT_TRUE(transport_->take_doorbells(*loop));
  ASSERT_EQ(taker.taken.size(), device_->queue_count());
  const auto bell = taker.taken.at(kBase + 0x50);  // that of queue 0
  EXPECT_EQ(bell.size, 4u);
  auto queue = start();
  queue.put<uint32_t>(0x8000, 0xCAFE'F00D);
  queue.put<uint32_t>(0x9000, 0);
  queue.write_chain(0, {{0x8000, 4, 0}, {0x9000, 4, DriverQueue::kWrite}});
  queue.offer(0);
  const uint64_t once = 1;
  ASSERT_EQ(::write(bell.event, &once, sizeof once), sizeof once);
  EXPECT_EQ(queue.used_index(), 0);
  loop->poll();
  EXPECT_EQ(queue.used_index(), 1);
  EXPECT_EQ(queue.get<uint32_t>(0x9000), 0xCAFE'F00D);
  // One that comes when the device is gone finds nobody.
  ASSERT_EQ(::write(bell.event, &once, sizeof once), sizeof once);
  transport_.reset();
  EXPECT_TRUE(taker.taken.empty());
  loop->poll();
}

}  // namespace
}  // namespace limen::virtio
