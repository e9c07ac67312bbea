// NVMe by its registers and queues: starting, admin commands, reads and writes, errors, events.
#include "storage/nvme/nvme.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "memory_disk.h"
#include "pci/pci_bus.h"

namespace limen::storage {
namespace {

using nvme::Command;
using nvme::Completion;

constexpr uint64_t kRam = 1 << 20, kRegisters = 0xC000'0000;
constexpr uint64_t kAdminSubmission = 0x1000, kAdminCompletion = 0x2000, kSubmission = 0x3000,
                   kCompletion = 0x4000, kList = 0x5000, kData = 0x1'0000;
constexpr uint32_t kEntries = 16;

struct Line final : irq::InterruptSink {
  void set_line(unsigned, bool now) override { level = now; }
  bool level = false;
};
struct Messages final : irq::MsiSink {
  void send_msi(const irq::MsiMessage& message) override { sent.push_back(message.data); }
  std::vector<uint32_t> sent;
};

class NvmeTest : public testing::Test {
 protected:
  NvmeTest() {
    const memory::GuestMemory::Layout layout{{0}, kRam};
    memory_ = *memory::GuestMemory::create(std::span(&layout, 1));
    controller_ = *Nvme::create({.serial = "SN1"}, *memory_, disk_);
    EXPECT_TRUE(bus_.attach(*controller_).has_value());
    bus_.connect_interrupts(line_);
    EXPECT_TRUE(pci::assign_resources(bus_, {kRegisters, 1 << 20}, {0xC000, 0x1000}).has_value());
    controller_->config_write(4, 2, 7);
    base_ = *controller_->bar_mapping(Nvme::kRegisterBar);
  }

  void set(uint32_t offset, uint64_t value, unsigned size = 4) {
    mmio_.write(base_ + offset, size, value);
  }
  uint64_t get(uint32_t offset, unsigned size = 4) { return mmio_.read(base_ + offset, size); }
  std::span<uint8_t> ram(uint64_t at, size_t bytes) {
    const auto span = memory_->span({at}, bytes);
    return {reinterpret_cast<uint8_t*>(span.data()), span.size()};
  }

  void enable() {
    set(0x24, (kEntries - 1) << 16 | (kEntries - 1));
    set(0x28, kAdminSubmission, 8);
    set(0x30, kAdminCompletion, 8);
    set(0x14, 4u << 20 | 6u << 16 | 1);
    ASSERT_EQ(get(0x1C), 1u);
  }
  void submit(unsigned queue, Command command) {
    command.id = ++last_id_;
    const uint64_t base = queue == 0 ? kAdminSubmission : kSubmission;
    std::memcpy(ram(base + tails_.at(queue) * sizeof command, sizeof command).data(), &command,
                sizeof command);
    tails_.at(queue) = (tails_.at(queue) + 1) % kEntries;
    set(0x1000 + queue * 8, tails_.at(queue));
  }
  /// The next completion, taken from its queue; one that is not there has id 0.
  Completion take(unsigned queue) {
    Completion completion{};
    const uint64_t base = queue == 0 ? kAdminCompletion : kCompletion;
    std::memcpy(&completion, ram(base + heads_.at(queue) * 16, 16).data(), 16);
    if ((completion.status & 1) != (phases_.at(queue) ? 1 : 0)) return {};
    if (++heads_.at(queue) == kEntries) {
      heads_.at(queue) = 0;
      phases_.at(queue) = !phases_.at(queue);
    }
    set(0x1004 + queue * 8, heads_.at(queue));
    completion.status >>= 1;
    return completion;
  }
  uint16_t run(unsigned queue, const Command& command) {
    submit(queue, command);
    const auto completion = take(queue);
    EXPECT_EQ(completion.id, last_id_);
    result_ = completion.result;
    return completion.status;
  }
  void create_queues() {
    enable();
    ASSERT_EQ(run(0, {.opcode = 5, .prp1 = kCompletion, .words = {(kEntries - 1) << 16 | 1, 3}}),
              0);
    ASSERT_EQ(
        run(0,
            {.opcode = 1, .prp1 = kSubmission, .words = {(kEntries - 1) << 16 | 1, 1u << 16 | 1}}),
        0);
  }
  static Command transfer(uint8_t opcode, uint64_t block, uint32_t count, uint64_t prp1,
                          uint64_t prp2 = 0) {
    return {.opcode = opcode,
            .namespace_id = 1,
            .prp1 = prp1,
            .prp2 = prp2,
            .words = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), count - 1}};
  }
  bool same(uint64_t at, uint64_t sector, size_t bytes) {
    return std::ranges::equal(ram(at, bytes),
                              std::span(disk_.content).subspan(sector * 512, bytes));
  }

  memory::IoSpace ports_{"ports"}, mmio_{"mmio"};
  Line line_;
  Messages messages_;
  MemoryDisk disk_{1 << 20};
  std::unique_ptr<memory::GuestMemory> memory_;
  pci::PciBus bus_{"pcie.0", {.ports = &ports_, .mmio = &mmio_, .msi = &messages_}};
  std::unique_ptr<Nvme> controller_;
  uint64_t base_ = 0;
  uint16_t last_id_ = 0;
  uint32_t result_ = 0;
  std::array<uint32_t, 2> tails_{}, heads_{};
  std::array<bool, 2> phases_{true, true};
};

TEST(NvmeCreate, WantsASerialNumber) {
  MemoryDisk disk(1 << 20), read_only(1 << 20, true);
  const memory::GuestMemory::Layout layout{{0}, kRam};
  auto memory = *memory::GuestMemory::create(std::span(&layout, 1));
  EXPECT_EQ(Nvme::create({}, *memory, disk).error().message, "serial property not set");
  EXPECT_EQ(Nvme::create({.serial = "1"}, *memory, read_only).error().message,
            "Block node is read-only");
}

TEST_F(NvmeTest, IdentifiesItself) {
  EXPECT_EQ(controller_->config_read(0, 4), 0x0010'1B36u);
  EXPECT_EQ(controller_->config_read(8, 4) >> 8, 0x01'0802u);
  EXPECT_EQ(get(8), 0x0001'0400u);
  EXPECT_EQ(get(0, 8) & 0xFFFF, 2047u);
  enable();
  EXPECT_EQ(run(0, {.opcode = 6, .prp1 = kData, .words = {1}}), 0);
  const auto controller = ram(kData, 4096);
  EXPECT_EQ(std::string(controller.begin() + 4, controller.begin() + 8), "SN1 ");
  EXPECT_EQ(std::string(controller.begin() + 24, controller.begin() + 38), "QEMU NVMe Ctrl");
  EXPECT_EQ(run(0, {.opcode = 6, .namespace_id = 1, .prp1 = kData, .words = {0}}), 0);
  uint64_t blocks = 0;
  std::memcpy(&blocks, ram(kData, 8).data(), 8);
  EXPECT_EQ(blocks, 2048u);
  EXPECT_EQ(ram(kData + 130, 1)[0], 9);
  EXPECT_EQ(run(0, {.opcode = 6, .namespace_id = 0, .prp1 = kData, .words = {2}}), 0);
  EXPECT_EQ(ram(kData, 1)[0], 1);
  EXPECT_EQ(run(0, {.opcode = 6, .namespace_id = 2, .prp1 = kData, .words = {0}}), 0x400B);
}

TEST_F(NvmeTest, RefusesSettingsItCannotWorkWith) {
  set(0x24, 0);
  set(0x28, kAdminSubmission, 8);
  set(0x30, kAdminCompletion, 8);
  set(0x14, 1);
  EXPECT_EQ(get(0x1C), 2u);
  set(0x14, 0);
  EXPECT_EQ(get(0x1C), 0u);
  enable();
}

TEST_F(NvmeTest, ReadsAndWritesThroughPages) {
  create_queues();
  EXPECT_EQ(run(1, transfer(2, 8, 1, kData)), 0);
  EXPECT_TRUE(same(kData, 8, 512));
  // A page that begins in the middle, and a second one.
  EXPECT_EQ(run(1, transfer(2, 16, 8, kData + 0x800, kData + 0x3000)), 0);
  EXPECT_TRUE(same(kData + 0x800, 16, 2048));
  EXPECT_TRUE(same(kData + 0x3000, 20, 2048));
  // A list.
  const std::array<uint64_t, 3> list = {kData + 0x5000, kData + 0x7000, kData + 0x9000};
  std::memcpy(ram(kList, sizeof list).data(), list.data(), sizeof list);
  EXPECT_EQ(run(1, transfer(2, 64, 32, kData, kList)), 0);
  EXPECT_TRUE(same(kData, 64, 4096));
  EXPECT_TRUE(same(kData + 0x9000, 88, 4096));
  std::ranges::fill(ram(kData, 4096), 0x5A);
  EXPECT_EQ(run(1, transfer(1, 100, 8, kData)), 0);
  EXPECT_EQ(disk_.content[100 * 512], 0x5A);
  EXPECT_EQ(disk_.content[108 * 512 - 1], 0x5A);
}

TEST_F(NvmeTest, FollowsAListToTheNext) {
  create_queues();
  // The list begins one entry before its page's end, which then leads on.
  const uint64_t next = kList + 0x1000, at = kList + 0xFF0;
  const std::array<uint64_t, 2> list = {kData + 0x2000, next};
  std::memcpy(ram(at, 16).data(), list.data(), 16);
  const std::array<uint64_t, 2> rest = {kData + 0x4000, kData + 0x6000};
  std::memcpy(ram(next, 16).data(), rest.data(), 16);
  EXPECT_EQ(run(1, transfer(2, 0, 32, kData, at)), 0);
  EXPECT_TRUE(same(kData, 0, 4096));
  EXPECT_TRUE(same(kData + 0x2000, 8, 4096));
  EXPECT_TRUE(same(kData + 0x6000, 24, 4096));
}

TEST_F(NvmeTest, NamesWhatIsWrongWithACommand) {
  create_queues();
  EXPECT_EQ(run(1, transfer(2, 2048, 1, kData)), 0x4080);
  EXPECT_EQ(run(1, transfer(2, ~0ull, 1, kData)), 0x4080);
  EXPECT_EQ(run(1, transfer(2, 0, 1, 0xF000'0000)), 0x4004);
  EXPECT_EQ(run(1, transfer(2, 0, 1, kData + 1)), 0x4013);
  EXPECT_EQ(run(1, transfer(2, 0, 16, kData, kData + 8)), 0x4013);
  EXPECT_EQ(run(1, transfer(2, 0, 2000, kData, kList)), 0x4002);  // more than MDTS
  EXPECT_EQ(run(1, transfer(0x7F, 0, 1, kData)), 0x4001);
  auto other = transfer(2, 0, 1, kData);
  other.namespace_id = 2;
  EXPECT_EQ(run(1, other), 0x400B);
  EXPECT_EQ(run(0, {.opcode = 0x80, .namespace_id = 1}), 0x4001);  // FORMAT NVM
}

TEST_F(NvmeTest, TellsOfTheMediumsErrors) {
  create_queues();
  disk_.error = EIO;
  EXPECT_EQ(run(1, transfer(2, 0, 1, kData)), 0x281);
  EXPECT_EQ(run(1, transfer(1, 0, 1, kData)), 0x280);
  disk_.error = ENOSPC;
  EXPECT_EQ(run(1, transfer(1, 0, 1, kData)), 0x4081);
}

TEST_F(NvmeTest, FlushesDiscardsAndZeroes) {
  create_queues();
  EXPECT_EQ(run(1, {.opcode = 0, .namespace_id = 0xFFFF'FFFF}), 0);
  EXPECT_EQ(disk_.flushes, 1u);
  auto forced = transfer(1, 0, 1, kData);
  forced.words[2] |= 1u << 30;
  EXPECT_EQ(run(1, forced), 0);
  EXPECT_EQ(disk_.flushes, 2u);
  EXPECT_EQ(run(1, transfer(8, 40, 4, 0)), 0);
  EXPECT_EQ(disk_.content[41 * 512 + 3], 0);
  const std::array<nvme::Range, 2> ranges = {{{0, 8, 16}, {0, 2, 100}}};
  std::memcpy(ram(kData, sizeof ranges).data(), ranges.data(), sizeof ranges);
  EXPECT_EQ(run(1, {.opcode = 9, .namespace_id = 1, .prp1 = kData, .words = {1, 4}}), 0);
  EXPECT_THAT(disk_.discarded, testing::ElementsAre(testing::Pair(16 * 512, 8 * 512),
                                                    testing::Pair(100 * 512, 2 * 512)));
  EXPECT_EQ(run(0, {.opcode = 9, .words = {6, 0}}), 0);  // no volatile write cache any more
  EXPECT_EQ(run(1, transfer(1, 0, 1, kData)), 0);
  EXPECT_EQ(disk_.flushes, 3u);
}

TEST_F(NvmeTest, DeletesAQueueOnceTheDiskIsDoneWithIt) {
  create_queues();
  disk_.hold = true;
  submit(1, transfer(2, 0, 1, kData));
  submit(0, {.opcode = 4, .words = {1}});
  EXPECT_EQ(take(0).status, 0x410C);  // a queue of commands still uses it
  submit(0, {.opcode = 0, .words = {1}});
  EXPECT_EQ(take(0).id, 0);
  disk_.release();
  EXPECT_EQ(take(1).status, 0);
  EXPECT_EQ(take(0).id, last_id_);
  EXPECT_EQ(run(0, {.opcode = 4, .words = {1}}), 0);
  EXPECT_EQ(run(0, {.opcode = 0, .words = {1}}), 0x4101);
}

TEST_F(NvmeTest, RefusesQueuesThatCannotBe) {
  enable();
  const auto completion = [&](uint32_t word0, uint32_t word1, uint64_t at) {
    return run(0, {.opcode = 5, .prp1 = at, .words = {word0, word1}});
  };
  EXPECT_EQ(completion(0xF'0000, 3, kCompletion), 0x4101);
  EXPECT_EQ(completion(0xF'0041, 3, kCompletion), 0x4101);
  EXPECT_EQ(completion(0x0'0001, 3, kCompletion), 0x4102);
  EXPECT_EQ(completion(0xFFFF'0001, 3, kCompletion), 0x4102);
  EXPECT_EQ(completion(0xF'0001, 3, kCompletion + 8), 0x4013);
  EXPECT_EQ(completion(0xF'0001, 5 << 16 | 3, kCompletion), 0x4108);
  EXPECT_EQ(completion(0xF'0001, 2, kCompletion), 0x4002);
  EXPECT_EQ(run(0, {.opcode = 1, .prp1 = kSubmission, .words = {0xF'0001, 1u << 16 | 1}}), 0x4100);
}

TEST_F(NvmeTest, WaitsForRoomForCompletions) {
  create_queues();
  for (unsigned i = 0; i < kEntries - 1; ++i) submit(1, transfer(2, i, 1, kData));
  submit(1, {.opcode = 0, .namespace_id = 1});
  EXPECT_EQ(disk_.flushes, 1u);
  for (unsigned i = 0; i < kEntries; ++i) EXPECT_NE(take(1).id, 0) << i;
  EXPECT_EQ(take(1).id, 0);
}

TEST_F(NvmeTest, RaisesItsPinUntilCompletionsAreTaken) {
  enable();
  submit(0, {.opcode = 0x7F});
  EXPECT_TRUE(line_.level);
  set(0x0C, 1);
  EXPECT_FALSE(line_.level);
  set(0x10, 1);
  EXPECT_TRUE(line_.level);
  take(0);
  EXPECT_FALSE(line_.level);
}

TEST_F(NvmeTest, SendsAMessageForEachQueue) {
  const auto table = *controller_->bar_mapping(Nvme::kMsixBar);
  for (uint32_t vector = 0; vector < 4; ++vector) {
    mmio_.write(table + vector * 16, 4, 0xFEE0'0000);
    mmio_.write(table + vector * 16 + 8, 4, 0x30 + vector);
    mmio_.write(table + vector * 16 + 12, 4, 0);
  }
  controller_->config_write(0x42, 2, 0x8000);
  enable();
  ASSERT_EQ(
      run(0, {.opcode = 5, .prp1 = kCompletion, .words = {(kEntries - 1) << 16 | 1, 3u << 16 | 3}}),
      0);
  ASSERT_EQ(
      run(0, {.opcode = 1, .prp1 = kSubmission, .words = {(kEntries - 1) << 16 | 1, 1u << 16 | 1}}),
      0);
  EXPECT_EQ(run(1, {.opcode = 0, .namespace_id = 1}), 0);
  EXPECT_THAT(messages_.sent, testing::ElementsAre(0x30, 0x30, 0x33));
  EXPECT_FALSE(line_.level);
}

TEST_F(NvmeTest, TellsOfEventsOnceUntilTheLogIsRead) {
  enable();
  submit(0, {.opcode = 0x0C});
  EXPECT_EQ(take(0).id, 0);
  set(0x1008, 1);  // there is no queue 1
  EXPECT_EQ(take(0).result, 0x0001'0000u);
  submit(0, {.opcode = 0x0C});
  set(0x1008, 1);
  EXPECT_EQ(take(0).id, 0);
  EXPECT_EQ(run(0, {.opcode = 2, .prp1 = kData, .words = {15u << 16 | 1}}), 0);
  EXPECT_EQ(run(0, {.opcode = 9, .words = {0x0B, 1 << 8}}), 0);
  controller_->resized();
  EXPECT_EQ(take(0).result, 0x0004'0002u);
  for (unsigned i = 0; i < 4; ++i) submit(0, {.opcode = 0x0C});
  submit(0, {.opcode = 0x0C});
  EXPECT_EQ(take(0).status, 0x4105);
}

TEST_F(NvmeTest, ShutsDownWithEverythingOnTheDisk) {
  enable();
  set(0x14, get(0x14) | 1 << 14);
  EXPECT_EQ(disk_.flushes, 1u);
  EXPECT_EQ(get(0x1C), 9u);
  set(0x14, 0);
  EXPECT_EQ(get(0x1C), 0u);
}

TEST_F(NvmeTest, IsDisabledOnceTheDiskIsDone) {
  create_queues();
  disk_.hold = true;
  submit(1, transfer(2, 0, 1, kData));
  set(0x14, 0);
  EXPECT_EQ(get(0x1C), 1u);
  disk_.release();
  EXPECT_EQ(get(0x1C), 0u);
  EXPECT_EQ(take(1).id, 0);
}

}  // namespace
}  // namespace limen::storage
