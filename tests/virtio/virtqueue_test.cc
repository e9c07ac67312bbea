#include "echo_device.h"
#include "test_driver.h"

namespace limen::virtio {
namespace {

using D = DriverQueue;

class VirtqueueTest : public VirtioTest {
 protected:
  void SetUp() override {
    auto device = std::make_unique<EchoDevice>();
    device_ = device.get();
    plug(std::move(device));
    enable_msix();
  }
  D start(uint64_t features = feature::kIndirectDescriptors, uint16_t size = 8) {
    EXPECT_TRUE(negotiate(feature::kVersion1 | features));
    set_common(0x10, 2, 0);
    D queue = enable_queue(0, size);
    driver_ok();
    return queue;
  }
  EchoDevice* device_ = nullptr;
};

TEST_F(VirtqueueTest, GathersAndScattersAChain) {
  D queue = start();
  for (uint8_t i = 0; i < 6; ++i) queue.put<uint8_t>(0x8000 + i, static_cast<uint8_t>(i + 1));
  queue.write_chain(2, {{0x8000, 2}, {0x8002, 4}, {0x9000, 5, D::kWrite}, {0xA000, 5, D::kWrite}});
  queue.offer(2);
  kick(0);
  EXPECT_EQ(queue.used_entry(0).id, 2u);
  EXPECT_EQ(queue.used_entry(0).length, 6u);
  EXPECT_EQ(queue.get<uint32_t>(0x9000), 0x0403'0201u);
  EXPECT_EQ(queue.get<uint16_t>(0x9004), 5u);
  EXPECT_EQ(queue.get<uint8_t>(0xA000), 6u);
}

TEST_F(VirtqueueTest, FollowsAnIndirectTable) {
  D queue = start();
  queue.put<uint32_t>(0x8000, 0x1234'5678);
  queue.write_descriptor(0x7000, 0, {0x8000, 4, D::kNext, 5});
  queue.write_descriptor(0x7000, 5, {0x9000, 4, D::kWrite, 0});
  queue.write_descriptor(queue.base, 0, {0x7000, 6 * 16, D::kIndirect, 0});
  queue.offer(0);
  kick(0);
  EXPECT_EQ(queue.get<uint32_t>(0x9000), 0x1234'5678u);
}

TEST_F(VirtqueueTest, FollowsADirectDescriptorThenAnIndirectTable) {
  D queue = start();
  queue.put<uint32_t>(0x8000, 0x1234'5678);
  queue.write_descriptor(0x7000, 0, {0x9000, 4, D::kWrite, 0});
  queue.write_descriptor(queue.base, 0, {0x8000, 4, D::kNext, 1});
  queue.write_descriptor(queue.base, 1, {0x7000, 16, D::kIndirect, 0});
  queue.offer(0);
  kick(0);
  EXPECT_EQ(queue.get<uint32_t>(0x9000), 0x1234'5678u);
}

TEST_F(VirtqueueTest, AnIndirectTableMayBeLongerThanTheQueue) {
  D queue = start(feature::kIndirectDescriptors, 4);
  for (uint16_t i = 0; i < 200; ++i)
    queue.write_descriptor(
        0x4'0000, i,
        {0x9000ull + i, 1, static_cast<uint16_t>(i < 199 ? D::kWrite | D::kNext : D::kWrite),
         static_cast<uint16_t>(i + 1)});
  queue.write_descriptor(queue.base, 0, {0x4'0000, 200 * 16, D::kIndirect, 0});
  device_->hold = true;
  queue.offer(0);
  kick(0);
  ASSERT_EQ(device_->held.size(), 1u);
  EXPECT_EQ(device_->held[0].writable_bytes, 200u);
}

TEST_F(VirtqueueTest, RingIndicesWrapAround) {
  D queue = start();
  for (unsigned i = 0; i < 70'000; ++i) {
    queue.write_chain(0, {{0x9000, 4, D::kWrite}});
    queue.offer(0);
    kick(0);
  }
  EXPECT_EQ(queue.used_index(), static_cast<uint16_t>(70'000));
  EXPECT_EQ(status() & status::kNeedsReset, 0);
}

TEST_F(VirtqueueTest, ReturnsRequestsOutOfOrder) {
  D queue = start();
  queue.write_chain(0, {{0x9000, 4, D::kWrite}});
  queue.write_chain(4, {{0xA000, 4, D::kWrite}});
  device_->hold = true;
  queue.offer(0);
  queue.offer(4);
  kick(0);
  device_->finish(0, device_->held[1]);
  device_->finish(0, device_->held[0]);
  EXPECT_EQ(queue.used_entry(0).id, 4u);
  EXPECT_EQ(queue.used_entry(1).id, 0u);
}

TEST_F(VirtqueueTest, HeedsNoInterruptFlag) {
  D queue = start();
  queue.write_chain(0, {{0x9000, 4, D::kWrite}});
  queue.set_no_interrupt(true);
  queue.offer(0);
  kick(0);
  EXPECT_EQ(queue.used_index(), 1);
  EXPECT_EQ(msi_.received(1), 0u);
  queue.set_no_interrupt(false);
  queue.offer(0);
  kick(0);
  EXPECT_EQ(msi_.received(1), 1u);
}

TEST_F(VirtqueueTest, InterruptsOnlyWhenTheUsedEventIsPassed) {
  D queue = start(feature::kEventIndex);
  queue.write_chain(0, {{0x9000, 4, D::kWrite}});
  queue.set_used_event(2);
  for (unsigned i = 0; i < 2; ++i) {
    queue.offer(0);
    kick(0);
  }
  EXPECT_EQ(msi_.received(1), 0u);
  queue.offer(0);
  kick(0);
  EXPECT_EQ(msi_.received(1), 1u);
  queue.offer(0);
  kick(0);
  EXPECT_EQ(msi_.received(1), 1u);
}

TEST_F(VirtqueueTest, AsksToBeNotifiedOfTheNextRequest) {
  D queue = start(feature::kEventIndex);
  queue.write_chain(0, {{0x9000, 4, D::kWrite}});
  for (uint16_t i = 1; i <= 3; ++i) {
    queue.offer(0);
    kick(0);
    EXPECT_EQ(queue.available_event(), i);
  }
}

TEST_F(VirtqueueTest, GoesOnWhereTheOneItWasLentToHasStopped) {
  D queue = start(0);
  const auto echo = [&](uint16_t head, uint32_t value) {
    queue.put<uint32_t>(0x8000, value);
    queue.put<uint32_t>(0x9000, 0);
    queue.write_chain(head, {{0x8000, 4}, {0x9000, 4, D::kWrite}});
    queue.offer(head);
    kick(0);
    return queue.get<uint32_t>(0x9000);
  };
  EXPECT_EQ(echo(0, 0x1111'1111), 0x1111'1111u);
  Virtqueue& ring = device_->transport->queue(0);
  const auto rings = ring.lend(0);
  ASSERT_TRUE(rings);
  EXPECT_FALSE(ring.lend(0));
  EXPECT_EQ(rings->size, 8);
  EXPECT_EQ(rings->next_available, 1);
  EXPECT_EQ(rings->descriptors, memory_->span({queue.base}, 1).data());
  EXPECT_EQ(rings->available, memory_->span({queue.available()}, 1).data());
  EXPECT_EQ(rings->used, memory_->span({queue.used()}, 1).data());
  EXPECT_EQ(echo(2, 0x2222'2222), 0u);  // nobody took it
  EXPECT_FALSE(ring.has_available());
  // The other uses it, and leaves with notifications off.
  queue.put<D::Used>(queue.used() + 4 + 8, {2, 0});
  queue.put<uint16_t>(queue.used() + 2, 2);
  queue.put<uint16_t>(queue.used(), 1);
  ring.take_back(2);
  EXPECT_EQ(queue.get<uint16_t>(queue.used()), 0);
  EXPECT_EQ(echo(4, 0x3333'3333), 0x3333'3333u);
  EXPECT_EQ(queue.used_index(), 3);
  EXPECT_EQ(queue.used_entry(2).id, 4u);
}

TEST_F(VirtqueueTest, LendsChainsAgainThatWereNotUsed) {
  D queue = start(0);
  Virtqueue& ring = device_->transport->queue(0);
  queue.write_chain(0, {{0x8000, 4}});
  queue.offer(0);
  queue.offer(0);
  ASSERT_TRUE(ring.pop());
  ASSERT_TRUE(ring.pop());
  ASSERT_TRUE(ring.lend(2));
  ring.take_back(0);
  EXPECT_TRUE(ring.pop());
  // A driver that switches it off meanwhile has it back at once.
  ASSERT_TRUE(ring.lend(0));
  ring.disable();
  ring.take_back(7);
  EXPECT_FALSE(ring.lend(0));
}

TEST_F(VirtqueueTest, MarksPagesThatItWroteAsChanged) {
  D queue = start();
  const uint64_t buffer_page = 9, ring_page = queue.used() >> 12;
  memory_->code_page_marks()[buffer_page] = true;
  memory_->code_page_marks()[ring_page] = true;
  const uint32_t buffer_before = memory_->code_generations()[buffer_page];
  const uint32_t ring_before = memory_->code_generations()[ring_page];
  queue.write_chain(0, {{0x9000, 4, D::kWrite}});
  queue.offer(0);
  kick(0);
  EXPECT_NE(memory_->code_generations()[buffer_page], buffer_before);
  EXPECT_NE(memory_->code_generations()[ring_page], ring_before);
}

/// One way to break the rules of the rings; `arrange` leaves the queue ready to be notified.
struct Malformed {
  const char* name;
  void (*arrange)(D& queue);
  uint64_t features = feature::kIndirectDescriptors;
};

void PrintTo(const Malformed& malformed, std::ostream* out) { *out << malformed.name; }

class MalformedDescriptors : public VirtqueueTest, public testing::WithParamInterface<Malformed> {};

TEST_P(MalformedDescriptors, StopTheDeviceUntilReset) {
  D queue = start(GetParam().features);
  GetParam().arrange(queue);
  const unsigned before = msi_.received(0);
  kick(0);
  EXPECT_NE(status() & status::kNeedsReset, 0);
  EXPECT_EQ(msi_.received(0), before + 1) << "the driver is told";
  EXPECT_EQ(queue.used_index(), 0);

  // Deaf until reset, and told only once.
  const unsigned notifications = device_->notifications;
  kick(0);
  EXPECT_EQ(device_->notifications, notifications);
  EXPECT_EQ(msi_.received(0), before + 1);

  queue = start();
  EXPECT_EQ(status() & status::kNeedsReset, 0);
  queue.write_chain(0, {{0x9000, 4, D::kWrite}});
  queue.offer(0);
  kick(0);
  EXPECT_EQ(queue.used_index(), 1);
}

const Malformed kMalformed[] = {
    {"LoopOfTwo",
     [](D& q) {
       q.write_descriptor(q.base, 0, {0x9000, 4, D::kNext, 1});
       q.write_descriptor(q.base, 1, {0x9000, 4, D::kNext, 0});
       q.offer(0);
     }},
    {"LoopToItself",
     [](D& q) {
       q.write_descriptor(q.base, 3, {0x9000, 4, D::kNext, 3});
       q.offer(3);
     }},
    {"LoopInAnIndirectTable",
     [](D& q) {
       q.write_descriptor(0x7000, 0, {0x9000, 4, D::kNext, 1});
       q.write_descriptor(0x7000, 1, {0x9000, 4, D::kNext, 0});
       q.write_descriptor(q.base, 0, {0x7000, 32, D::kIndirect, 0});
       q.offer(0);
     }},
    {"BufferOutsideRam",
     [](D& q) {
       q.write_chain(0, {{0x8000'0000'0000, 4, D::kWrite}});
       q.offer(0);
     }},
    {"BufferCrossesTheEndOfRam",
     [](D& q) {
       q.write_chain(0, {{kRamSize - 2, 4, D::kWrite}});
       q.offer(0);
     }},
    {"BufferAddressWraps",
     [](D& q) {
       q.write_chain(0, {{~uint64_t{0} - 1, 4, D::kWrite}});
       q.offer(0);
     }},
    {"SecondBufferOutsideRam",
     [](D& q) {
       q.write_chain(0, {{0x9000, 4}, {kRamSize, 4, D::kWrite}});
       q.offer(0);
     }},
    {"LengthLongerThanRam",
     [](D& q) {
       q.write_chain(0, {{0x9000, 0xFFFF'FFFF, D::kWrite}});
       q.offer(0);
     }},
    {"LengthsAddUpToMoreThanFourGigabytes",
     [](D& q) {
       // 15 MiB each through an indirect table: every one is RAM, their sum is not 32 bits.
       for (uint16_t i = 0; i < 300; ++i)
         q.write_descriptor(0x4'0000, i,
                            {0x1000, 15 << 20, D::kWrite | D::kNext, static_cast<uint16_t>(i + 1)});
       q.write_descriptor(q.base, 0, {0x4'0000, 301 * 16, D::kIndirect, 0});
       q.offer(0);
     }},
    {"ZeroLengthBuffer",
     [](D& q) {
       q.write_chain(0, {{0x9000, 0, D::kWrite}});
       q.offer(0);
     }},
    {"IndirectInsideIndirect",
     [](D& q) {
       q.write_descriptor(0x7000, 0, {0x7100, 16, D::kIndirect, 0});
       q.write_descriptor(0x7100, 0, {0x9000, 4, 0, 0});
       q.write_descriptor(q.base, 0, {0x7000, 16, D::kIndirect, 0});
       q.offer(0);
     }},
    {"IndirectWithNext",
     [](D& q) {
       q.write_descriptor(0x7000, 0, {0x9000, 4, 0, 0});
       q.write_descriptor(q.base, 0, {0x7000, 16, D::kIndirect | D::kNext, 1});
       q.write_descriptor(q.base, 1, {0x9000, 4, 0, 0});
       q.offer(0);
     }},
    {"IndirectTableOfZeroBytes",
     [](D& q) {
       q.write_descriptor(q.base, 0, {0x7000, 0, D::kIndirect, 0});
       q.offer(0);
     }},
    {"IndirectTableNotOfWholeDescriptors",
     [](D& q) {
       q.write_descriptor(0x7000, 0, {0x9000, 4, 0, 0});
       q.write_descriptor(q.base, 0, {0x7000, 24, D::kIndirect, 0});
       q.offer(0);
     }},
    {"IndirectTableOutsideRam",
     [](D& q) {
       q.write_descriptor(q.base, 0, {kRamSize - 16, 32, D::kIndirect, 0});
       q.offer(0);
     }},
    {"IndirectWithoutTheFeature",
     [](D& q) {
       q.write_descriptor(0x7000, 0, {0x9000, 4, 0, 0});
       q.write_descriptor(q.base, 0, {0x7000, 16, D::kIndirect, 0});
       q.offer(0);
     },
     0},
    {"NextOutOfRange",
     [](D& q) {
       q.write_descriptor(q.base, 0, {0x9000, 4, D::kNext, 8});
       q.offer(0);
     }},
    {"NextOutOfRangeOfTheIndirectTable",
     [](D& q) {
       q.write_descriptor(0x7000, 0, {0x9000, 4, D::kNext, 2});
       q.write_descriptor(0x7000, 2, {0x9000, 4, 0, 0});
       q.write_descriptor(q.base, 0, {0x7000, 32, D::kIndirect, 0});
       q.offer(0);
     }},
    {"HeadOutOfRange", [](D& q) { q.offer(8); }},
    {"AvailableIndexJumps",
     [](D& q) {
       q.write_chain(0, {{0x9000, 4, D::kWrite}});
       q.offer(0);
       q.set_available_index(9);
     }},
    {"AvailableIndexGoesBack", [](D& q) { q.set_available_index(0xFFFF); }},
    {"ReadableAfterWritable",
     [](D& q) {
       q.write_chain(0, {{0x9000, 4, D::kWrite}, {0x8000, 4}});
       q.offer(0);
     }},
    {"ChainOfTooManyBuffers",
     [](D& q) {
       for (uint16_t i = 0; i < 2000; ++i)
         q.write_descriptor(0x4'0000, i, {0x9000, 1, D::kNext, static_cast<uint16_t>(i + 1)});
       q.write_descriptor(0x4'0000, 2000, {0x9000, 1, 0, 0});
       q.write_descriptor(q.base, 0, {0x4'0000, 2001 * 16, D::kIndirect, 0});
       q.offer(0);
     }},
};

INSTANTIATE_TEST_SUITE_P(Virtqueue, MalformedDescriptors, testing::ValuesIn(kMalformed),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace limen::virtio
