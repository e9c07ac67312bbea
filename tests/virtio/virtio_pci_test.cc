#include "echo_device.h"
#include "test_driver.h"

namespace limen::virtio {
namespace {

class VirtioPciTest : public VirtioTest {
 protected:
  void SetUp() override {
    auto device = std::make_unique<EchoDevice>();
    device_ = device.get();
    plug(std::move(device));
  }
  /// Everything up to DRIVER_OK with queue 0.
  DriverQueue start(uint64_t features = feature::kVersion1) {
    EXPECT_TRUE(negotiate(features));
    DriverQueue queue = enable_queue(0, 8);
    driver_ok();
    return queue;
  }
  void echo_once(DriverQueue& queue) {
    const uint16_t before = queue.used_index();
    queue.put<uint32_t>(0x8000, 0xCAFE'F00D);
    queue.put<uint32_t>(0x9000, 0);
    queue.write_chain(0, {{0x8000, 4, 0}, {0x9000, 4, DriverQueue::kWrite}});
    queue.offer(0);
    kick(0);
    EXPECT_EQ(queue.used_index(), static_cast<uint16_t>(before + 1));
    EXPECT_EQ(queue.get<uint32_t>(0x9000), 0xCAFE'F00D);
    EXPECT_EQ(queue.used_entry(before).length, 4u);
  }
  EchoDevice* device_ = nullptr;
};

TEST_F(VirtioPciTest, IsAModernDevice) {
  EXPECT_EQ(function_->config_read(0, 4), 0x1042'1AF4u);
  EXPECT_EQ(function_->config_read(8, 1), 1u);
}

TEST_F(VirtioPciTest, CapabilitiesNameEveryRegion) {
  std::vector<uint32_t> types;
  for (auto at = static_cast<uint16_t>(function_->config_read(0x34, 1)); at != 0;
       at = static_cast<uint16_t>(function_->config_read(static_cast<uint16_t>(at + 1), 1))) {
    if (function_->config_read(at, 1) != 0x09) continue;
    const uint32_t type = function_->config_read(static_cast<uint16_t>(at + 3), 1);
    types.push_back(type);
    if (type == 5) continue;
    EXPECT_EQ(function_->config_read(static_cast<uint16_t>(at + 4), 1), 4u);
    EXPECT_EQ(function_->config_read(static_cast<uint16_t>(at + 8), 4) % 0x1000, 0u);
    if (type == 2) {
      EXPECT_EQ(function_->config_read(static_cast<uint16_t>(at + 16), 4), 4u);
    }
  }
  EXPECT_THAT(types, testing::UnorderedElementsAre(1, 2, 3, 4, 5));
}

TEST_F(VirtioPciTest, OffersItsFeaturesAndThoseOfTheRings) {
  EXPECT_EQ(offered(), EchoDevice::kFeature | feature::kVersion1 | feature::kIndirectDescriptors |
                           feature::kEventIndex);
  set_common(0x00, 4, 2);
  EXPECT_EQ(common(0x04, 4), 0u);
}

TEST_F(VirtioPciTest, RefusesFeaturesThatItDidNotOffer) {
  EXPECT_FALSE(negotiate(feature::kVersion1 | 1));
  EXPECT_TRUE(negotiate(feature::kVersion1 | EchoDevice::kFeature));
}

TEST_F(VirtioPciTest, RefusesADriverWithoutVersionOne) { EXPECT_FALSE(negotiate(0)); }

TEST_F(VirtioPciTest, FeaturesAreFixedOnceAccepted) {
  ASSERT_TRUE(negotiate(feature::kVersion1));
  set_common(0x08, 4, 0);
  set_common(0x0C, 4, 0xFFFF'FFFF);
  EXPECT_EQ(common(0x0C, 4), 0u);
}

TEST_F(VirtioPciTest, QueueFieldsFollowTheSelector) {
  EXPECT_EQ(common(0x12, 2), 2u);
  set_common(0x16, 2, 1);
  EXPECT_EQ(common(0x18, 2), 64u);
  EXPECT_EQ(common(0x1E, 2), 1u);
  set_address(0x20, 0x1234'5678'9ABC'DEF0);
  EXPECT_EQ(mmio_.read(kRegisters + 0x20, 8), 0x1234'5678'9ABC'DEF0u);
  set_common(0x16, 2, 0);
  EXPECT_EQ(mmio_.read(kRegisters + 0x20, 8), 0u);
  set_common(0x16, 2, 2);
  EXPECT_EQ(common(0x18, 2), 0u) << "there is no queue 2";
  set_common(0x1C, 2, 1);
  EXPECT_EQ(status() & status::kNeedsReset, 0);
}

TEST_F(VirtioPciTest, VectorsThatDoNotExistReadBackAsNone) {
  set_common(0x10, 2, 2);
  EXPECT_EQ(common(0x10, 2), 2u);
  set_common(0x10, 2, 3);
  EXPECT_EQ(common(0x10, 2), 0xFFFFu);
  set_common(0x16, 2, 0);
  set_common(0x1A, 2, 500);
  EXPECT_EQ(common(0x1A, 2), 0xFFFFu);
}

TEST_F(VirtioPciTest, StartsAtDriverOkAndTakesWhatWasOfferedBefore) {
  ASSERT_TRUE(negotiate(feature::kVersion1));
  DriverQueue queue = enable_queue(0, 8);
  queue.write_chain(0, {{0x9000, 4, DriverQueue::kWrite}});
  queue.offer(0);
  kick(0);
  EXPECT_EQ(queue.used_index(), 0) << "not before DRIVER_OK";
  driver_ok();
  EXPECT_EQ(device_->starts, 1u);
  EXPECT_EQ(queue.used_index(), 1);
}

TEST_F(VirtioPciTest, AQueueIsNotEnabledBeforeFeaturesOk) {
  set_status(0);
  enable_queue(0, 8);
  EXPECT_EQ(common(0x1C, 2), 0u);
}

TEST_F(VirtioPciTest, ResetForgetsEverything) {
  DriverQueue queue = start();
  set_status(0);
  EXPECT_EQ(status(), 0u);
  set_common(0x16, 2, 0);
  EXPECT_EQ(common(0x1C, 2), 0u);
  EXPECT_EQ(common(0x18, 2), 64u);
  EXPECT_EQ(common(0x1A, 2), 0xFFFFu);
  EXPECT_EQ(mmio_.read(kRegisters + 0x20, 8), 0u);
  const unsigned before = device_->notifications;
  queue.offer(0);
  kick(0);
  EXPECT_EQ(device_->notifications, before);
}

TEST_F(VirtioPciTest, StatusBitsAreOnlyClearedByReset) {
  ASSERT_TRUE(negotiate(feature::kVersion1));
  set_status(status::kAcknowledge);
  EXPECT_EQ(status(), status::kAcknowledge | status::kDriver | status::kFeaturesOk);
  set_status(status() | status::kNeedsReset);
  EXPECT_EQ(status() & status::kNeedsReset, 0);
}

TEST_F(VirtioPciTest, InterruptsByMsixOnTheQueuesVector) {
  enable_msix();
  DriverQueue queue = start();
  echo_once(queue);
  EXPECT_EQ(msi_.received(1), 1u);
  EXPECT_FALSE(line_.level);
}

TEST_F(VirtioPciTest, InterruptsByLineUntilTheIsrIsRead) {
  DriverQueue queue = start();
  echo_once(queue);
  EXPECT_TRUE(line_.level);
  EXPECT_EQ(isr(), 1u);
  EXPECT_FALSE(line_.level);
  EXPECT_EQ(isr(), 0u);
}

TEST_F(VirtioPciTest, ConfigurationChangeBumpsTheGeneration) {
  enable_msix();
  start();
  set_common(0x10, 2, 0);
  const uint32_t generation = common(0x15, 1);
  function_->configuration_changed();
  EXPECT_NE(common(0x15, 1), generation);
  EXPECT_EQ(msi_.received(0), 1u);
}

TEST_F(VirtioPciTest, DeviceConfigurationIsBounded) {
  mmio_.write(kRegisters + 0x2000, 8, 0x1122'3344'5566'7788);
  EXPECT_EQ(device_config(0, 8), 0x1122'3344'5566'7788u);
  EXPECT_EQ(device_config(4, 8), 0x1122'3344u);
  EXPECT_EQ(device_config(8, 4), 0u);
  EXPECT_EQ(device_config(0xFF8, 8), 0u);
  mmio_.write(kRegisters + 0x2004, 8, ~0ull);
  mmio_.write(kRegisters + 0x2008, 4, ~0ull);
  EXPECT_EQ(device_config(0, 8), 0x1122'3344'5566'7788u);
}

TEST_F(VirtioPciTest, ConfigurationSpaceWindowReachesTheRegisters) {
  auto at = static_cast<uint16_t>(function_->config_read(0x34, 1));
  while (function_->config_read(at, 1) != 0x09 ||
         function_->config_read(static_cast<uint16_t>(at + 3), 1) != 5)
    at = static_cast<uint16_t>(function_->config_read(static_cast<uint16_t>(at + 1), 1));
  const auto window = [&](uint32_t bar, uint32_t offset, uint32_t length) {
    function_->config_write(static_cast<uint16_t>(at + 4), 1, bar);
    function_->config_write(static_cast<uint16_t>(at + 8), 4, offset);
    function_->config_write(static_cast<uint16_t>(at + 12), 4, length);
  };
  const auto data = static_cast<uint16_t>(at + 16);
  window(4, 0x12, 2);
  EXPECT_EQ(function_->config_read(data, 2), 2u) << "number of queues";
  window(4, 0x14, 1);
  function_->config_write(data, 1, status::kAcknowledge);
  EXPECT_EQ(status(), status::kAcknowledge);
  // Impossible windows do nothing.
  for (const auto& [bar, offset, length] : std::vector<std::array<uint32_t, 3>>{
           {1, 0x14, 1}, {4, 0x14, 3}, {4, 0x14, 0}, {4, 0x15, 2}, {4, 0x4000, 4}, {4, ~3u, 4}}) {
    window(bar, offset, length);
    function_->config_write(data, 4, 0);
    EXPECT_EQ(status(), status::kAcknowledge);
  }
}

TEST_F(VirtioPciTest, EveryRegisterInEveryWidthIsHarmless) {
  for (const unsigned size : {1u, 2u, 4u, 8u})
    for (uint64_t offset = 0; offset < 0x4000; offset += offset < 0x80 ? 1 : 61) {
      mmio_.read(kRegisters + offset, size);
      mmio_.write(kRegisters + offset, size, ~0ull);
    }
  set_status(0);
  DriverQueue queue = start();
  echo_once(queue);
}

TEST_F(VirtioPciTest, ABadRingSetupStopsTheDevice) {
  struct Case {
    const char* name;
    uint16_t size;
    uint64_t descriptors, available, used;
  };
  for (const Case& c : {Case{"size zero", 0, 0x1000, 0x2000, 0x3000},
                        Case{"size not a power of two", 6, 0x1000, 0x2000, 0x3000},
                        Case{"size too large", 2048, 0x1000, 0x2000, 0x3000},
                        Case{"descriptors outside RAM", 8, kRamSize, 0x2000, 0x3000},
                        Case{"descriptors cross the end of RAM", 8, kRamSize - 16, 0x2000, 0x3000},
                        Case{"available ring outside RAM", 8, 0x1000, ~1ull, 0x3000},
                        Case{"used ring outside RAM", 8, 0x1000, 0x2000, kRamSize - 4},
                        Case{"descriptors misaligned", 8, 0x1008, 0x2000, 0x3000},
                        Case{"available ring misaligned", 8, 0x1000, 0x2001, 0x3000},
                        Case{"used ring misaligned", 8, 0x1000, 0x2000, 0x3002}}) {
    SCOPED_TRACE(c.name);
    ASSERT_TRUE(negotiate(feature::kVersion1));
    set_common(0x16, 2, 0);
    set_common(0x18, 2, c.size);
    set_address(0x20, c.descriptors);
    set_address(0x28, c.available);
    set_address(0x30, c.used);
    set_common(0x1C, 2, 1);
    EXPECT_NE(status() & status::kNeedsReset, 0);
    DriverQueue queue = start();
    echo_once(queue);
  }
}

TEST_F(VirtioPciTest, WithoutBusMasteringItLeavesMemoryAlone) {
  const auto command = function_->config_read(pci::reg::kCommand, 2);
  const auto set_command = [&](uint32_t value) {
    function_->config_write(pci::reg::kCommand, 2, value);
  };
  // Before DRIVER_OK there is nothing to stop.
  negotiate(feature::kVersion1);
  const unsigned resets = device_->resets;
  set_command(command & ~uint32_t{pci::command::kBusMaster});
  EXPECT_EQ(device_->resets, resets);
  set_command(command);
  start();
  const unsigned running = device_->resets;
  set_command(command | pci::command::kInterruptDisable);
  EXPECT_EQ(device_->resets, running);
  set_command(command & ~uint32_t{pci::command::kBusMaster});
  EXPECT_EQ(device_->resets, running + 1);
  EXPECT_EQ(status(), 0u);
  set_command(command);
  DriverQueue queue = start();
  echo_once(queue);
}

TEST_F(VirtioPciTest, AMachineResetTurnsEverythingOff) {
  start();
  function_->reset();
  EXPECT_EQ(mmio_.read(kRegisters, 4), 0xFFFF'FFFFu);
  assign();
  EXPECT_EQ(status(), 0u);
  DriverQueue queue = start();
  echo_once(queue);
}

}  // namespace
}  // namespace limen::virtio
