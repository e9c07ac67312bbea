// Keyboard, mouse, tablet and storage behind a controller that is driven by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <optional>

#include "block/scsi/disk.h"
#include "storage/memory_disk.h"
#include "usb/hid/keyboard.h"
#include "usb/hid/pointer.h"
#include "usb/mass_storage.h"
#include "xhci_driver.h"

namespace limen::usb {
namespace {

using namespace xhci;
using testing::ElementsAre;

class HidTest : public XhciDriver {
 protected:
  static constexpr unsigned kReports = 3;  // device context index

  template <typename T, typename... Arguments>
  T* plug(Arguments&&... arguments) {
    auto device =
        std::make_unique<T>(std::forward<Arguments>(arguments)..., HidProperties{}, *loop_, input_);
    auto* raw = device.get();
    EXPECT_TRUE(controller_->plug(std::move(device), 1).has_value());
    start();
    slot_ = enumerate(1);
    configure(slot_, {{kReports, kInterruptIn}});
    loop_->poll();
    return raw;
  }
  ~HidTest() override { controller_->unplug(1).reset(); }
  /// The next report; empty: none comes.
  std::vector<uint8_t> report() {
    if (!asked_) transfer(slot_, kReports, kData, 8);
    asked_ = true;
    loop_->poll();
    const auto done = event();
    if (done.type() == 0) return {};
    asked_ = false;
    const auto bytes = ram(kData, 8 - length_of(done));
    return {bytes.begin(), bytes.end()};
  }

  display::Input input_;
  uint8_t slot_ = 0;
  bool asked_ = false;
};

struct OtherKeyboard final : display::KeySink {
  void key(display::KeyCode, bool) override { ++keys; }
  unsigned keys = 0;
};

TEST_F(HidTest, KeyboardTellsOfEveryKey) {
  plug<Keyboard>();
  EXPECT_TRUE(report().empty());
  input_.key(0x2A, true);  // left Shift
  input_.key(0x1E, true);  // A
  input_.key(0x1E, false);
  input_.key(0x2A, false);
  input_.key(0x48 | display::kExtended, true);  // up
  EXPECT_THAT(report(), ElementsAre(2, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(report(), ElementsAre(2, 0, 4, 0, 0, 0, 0, 0));
  EXPECT_THAT(report(), ElementsAre(2, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(report(), ElementsAre(0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(report(), ElementsAre(0, 0, 0x52, 0, 0, 0, 0, 0));
  EXPECT_TRUE(report().empty());
}

TEST_F(HidTest, MoreKeysThanAReportHoldsRollOver) {
  plug<Keyboard>();
  for (display::KeyCode code = 0x10; code < 0x17; ++code) input_.key(code, true);
  for (unsigned i = 0; i < 6; ++i) EXPECT_EQ(report()[2], 0x14);
  EXPECT_THAT(report(), ElementsAre(0, 0, 1, 1, 1, 1, 1, 1));
  input_.key(0x10, false);
  EXPECT_THAT(report(), ElementsAre(0, 0, 0x1A, 8, 0x15, 0x17, 0x1C, 0x18));
}

TEST_F(HidTest, KeyboardShowsTheLocks) {
  plug<Keyboard>();
  ram(kData, 1)[0] = 0b011;  // Num and Caps
  EXPECT_EQ(control(slot_, 0x21, 9, 0x0200, 0, 1), Code::kSuccess);
  EXPECT_EQ(input_.leds(), 0b110);
}

TEST_F(HidTest, AKeyboardWithoutADriverLeavesTheKeysToOthers) {
  OtherKeyboard other;
  input_.add(other);
  Keyboard idle({}, *loop_, input_);
  input_.key(0x1E, true);
  EXPECT_EQ(other.keys, 1u);
  plug<Keyboard>();
  input_.key(0x1F, true);
  EXPECT_EQ(other.keys, 1u);
  // Its port's reset takes the configuration away.
  set_port(1, portsc::kPower | portsc::kReset);
  loop_->poll();
  input_.key(0x20, true);
  EXPECT_EQ(other.keys, 2u);
  input_.remove(other);
}

TEST_F(HidTest, ReportsRepeatWhenTheHostWantsThemTo) {
  plug<Keyboard>();
  EXPECT_EQ(control(slot_, 0x21, 10, 25 << 8, 0, 0), Code::kSuccess);  // every 100 ms
  input_.key(0x1E, true);
  EXPECT_EQ(report()[2], 4);
  EXPECT_TRUE(report().empty());
  loop_->advance(std::chrono::milliseconds(101));
  EXPECT_EQ(report()[2], 4);
  EXPECT_EQ(control(slot_, 0x21, 10, 0, 0, 0), Code::kSuccess);
  loop_->advance(std::chrono::seconds(1));
  EXPECT_TRUE(report().empty());
}

TEST_F(HidTest, TabletTellsItsPlace) {
  plug<Pointer>(true);
  EXPECT_TRUE(input_.absolute());
  input_.move_to(0x1234, 0x7FFF);
  input_.button(display::Button::kLeft, true);
  input_.sync();
  input_.button(display::Button::kLeft, false);
  input_.wheel(-1, 0);
  input_.sync();
  EXPECT_THAT(report(), ElementsAre(1, 0x34, 0x12, 0xFF, 0x7F, 0));
  EXPECT_THAT(report(), ElementsAre(0, 0x34, 0x12, 0xFF, 0x7F, 0xFF));
  EXPECT_TRUE(report().empty());
}

TEST_F(HidTest, AButtonIsPressedWhereItWasHoweverFarTheTabletGoesThen) {
  plug<Pointer>(true);
  const auto at = [&](unsigned x, std::optional<bool> down = {}) {
    input_.move_to(x, 5);
    if (down) input_.button(display::Button::kLeft, *down);
    input_.sync();
  };
  for (const unsigned x : {1u, 2u, 3u}) at(x);
  at(3, true);
  for (const unsigned x : {4u, 5u, 6u}) at(x);
  at(6, false);
  for (const unsigned x : {7u, 8u}) at(x);
  EXPECT_THAT(report(), ElementsAre(0, 3, 0, 5, 0, 0));
  EXPECT_THAT(report(), ElementsAre(1, 3, 0, 5, 0, 0));
  EXPECT_THAT(report(), ElementsAre(1, 6, 0, 5, 0, 0));
  EXPECT_THAT(report(), ElementsAre(0, 6, 0, 5, 0, 0));
  EXPECT_THAT(report(), ElementsAre(0, 8, 0, 5, 0, 0));
  EXPECT_TRUE(report().empty());
}

TEST_F(HidTest, MouseTellsItsStepsAWholeByteAtATime) {
  plug<Pointer>(false);
  input_.move_by(200, -3);
  input_.sync();
  input_.button(display::Button::kMiddle, true);
  input_.sync();
  EXPECT_THAT(report(), ElementsAre(0, 127, 0xFD, 0));
  EXPECT_THAT(report(), ElementsAre(0, 73, 0, 0));
  EXPECT_THAT(report(), ElementsAre(4, 0, 0, 0));
  EXPECT_TRUE(report().empty());
}

TEST_F(HidTest, DescriptorsFitTogether) {
  plug<Pointer>(true);
  ASSERT_EQ(control(slot_, 0x80, 6, 0x0200, 0, 255), Code::kSuccess);
  const auto bytes = ram(kData, transferred_);
  EXPECT_EQ(bytes[2], transferred_);
  size_t at = 0, descriptors = 0;
  for (; at < bytes.size(); at += bytes[at]) {
    ASSERT_GE(bytes[at], 2);
    ++descriptors;
  }
  EXPECT_EQ(at, bytes.size());
  EXPECT_EQ(descriptors, 4u);  // configuration, interface, HID, endpoint
  const uint16_t report_bytes = static_cast<uint16_t>(bytes[18 + 7] | bytes[18 + 8] << 8);
  ASSERT_EQ(control(slot_, 0x81, 6, 0x2200, 0, 255), Code::kSuccess);
  EXPECT_EQ(transferred_, report_bytes);
  ASSERT_EQ(control(slot_, 0x80, 6, 0x0302, 0x409, 255), Code::kSuccess);
  EXPECT_EQ(ram(kData, 3)[2], 'Q');
}

// --- Storage ------------------------------------------------------------------------------------

class StorageTest : public XhciDriver {
 protected:
  static constexpr unsigned kDataIn = 3, kDataOut = 4;
  static constexpr uint64_t kWrapper = 0x8000, kStatus = 0x8100;
  struct [[gnu::packed]] Wrapper {
    uint32_t signature = 0x43425355, tag = 0, length = 0;
    uint8_t flags = 0, lun = 0, cdb_length = 10;
    uint8_t cdb[16] = {};
  };
  struct [[gnu::packed]] Result {
    uint32_t signature, tag, residue;
    uint8_t status;
  };

  StorageTest() {
    auto unit = *block::scsi::Disk::create({.identity = {.product = "DISK"}}, disk_);
    EXPECT_TRUE(
        controller_->plug(std::make_unique<MassStorage>(std::move(unit), ""), 1).has_value());
    start();
    slot_ = enumerate(5);  // a USB 3 port
    configure(slot_, {{kDataIn, kBulkIn}, {kDataOut, kBulkOut}});
    run({0x00}, 0, false);  // the attention that it was just switched on
    run({0x03, 0, 0, 0, 18}, 18, true);
  }
  ~StorageTest() override { controller_->unplug(1).reset(); }

  void send(std::vector<uint8_t> cdb, uint32_t length, bool to_host) {
    Wrapper wrapper{.tag = ++tag_, .length = length};
    wrapper.flags = to_host ? 0x80 : 0;
    wrapper.cdb_length = static_cast<uint8_t>(cdb.size());
    std::ranges::copy(cdb, wrapper.cdb);
    put(kWrapper, wrapper);
    transfer(slot_, kDataOut, kWrapper, sizeof wrapper);
    EXPECT_EQ(code_of(event()), Code::kSuccess);
  }
  Result status() {
    transfer(slot_, kDataIn, kStatus, 13);
    EXPECT_EQ(code_of(event()), Code::kSuccess);
    const auto result = peek<Result>(kStatus);
    EXPECT_EQ(result.signature, 0x53425355u);
    EXPECT_EQ(result.tag, tag_);
    return result;
  }
  Result run(std::vector<uint8_t> cdb, uint32_t length, bool to_host) {
    send(std::move(cdb), length, to_host);
    if (length != 0) {
      transfer(slot_, to_host ? kDataIn : kDataOut, kData, length);
      EXPECT_EQ(code_of(event()), Code::kSuccess);
    }
    return status();
  }
  static std::vector<uint8_t> transfer10(uint8_t opcode, uint8_t block, uint8_t count) {
    return {opcode, 0, 0, 0, 0, block, 0, 0, count, 0};
  }

  storage::MemoryDisk disk_{1 << 20};
  uint8_t slot_ = 0;
  uint32_t tag_ = 0;
};

TEST_F(StorageTest, TellsWhoItIs) {
  const auto result = run({0x12, 0, 0, 0, 36, 0}, 36, true);
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.residue, 0u);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(ram(kData + 16, 4).data()), 4), "DISK");
  EXPECT_EQ(control(slot_, 0xA1, 0xFE, 0, 0, 1), Code::kSuccess);  // the highest unit
  EXPECT_EQ(ram(kData, 1)[0], 0);
}

TEST_F(StorageTest, ReadsAndWritesBlocks) {
  EXPECT_EQ(run(transfer10(0x28, 3, 8), 8 * 512, true).status, 0);
  EXPECT_TRUE(std::ranges::equal(ram(kData, 4096), std::span(disk_.content).subspan(1536, 4096)));
  std::ranges::fill(ram(kData, 1024), uint8_t{0xAB});
  EXPECT_EQ(run(transfer10(0x2A, 100, 2), 1024, false).status, 0);
  EXPECT_EQ(disk_.content[100 * 512], 0xAB);
  EXPECT_EQ(disk_.content[102 * 512 - 1], 0xAB);
  EXPECT_NE(disk_.content[102 * 512 + 5], 0xAB);
}

TEST_F(StorageTest, WaitsForTheDisk) {
  disk_.hold = true;
  send(transfer10(0x28, 0, 1), 512, true);
  transfer(slot_, kDataIn, kData, 512);
  EXPECT_EQ(event().type(), 0u);
  disk_.release();
  EXPECT_EQ(code_of(event()), Code::kSuccess);
  EXPECT_EQ(status().status, 0);
}

TEST_F(StorageTest, FailuresAreExplainedByRequestSense) {
  disk_.error = EIO;
  EXPECT_EQ(run(transfer10(0x28, 0, 1), 512, true).status, 1);
  disk_.error = 0;
  EXPECT_EQ(run({0x03, 0, 0, 0, 18, 0}, 18, true).status, 0);
  EXPECT_EQ(ram(kData, 18)[2], 3);      // medium error
  EXPECT_EQ(ram(kData, 18)[12], 0x11);  // unrecovered read error
  EXPECT_EQ(run({0x03, 0, 0, 0, 18, 0}, 18, true).status, 0);
  EXPECT_EQ(ram(kData, 18)[2], 0);
}

TEST_F(StorageTest, ShortAnswersAreFilledUp) {
  std::ranges::fill(ram(kData, 255), uint8_t{0xEE});
  const auto result = run({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 255, true);  // capacity: 8 bytes
  EXPECT_EQ(result.residue, 247u);
  EXPECT_EQ(ram(kData, 255)[2], 0x07);
  EXPECT_EQ(ram(kData, 255)[254], 0);
}

TEST_F(StorageTest, AUnitThatIsNotThereIsNotReady) {
  Wrapper wrapper{.tag = ++tag_};
  wrapper.lun = 3;
  wrapper.cdb_length = 6;
  put(kWrapper, wrapper);
  transfer(slot_, kDataOut, kWrapper, sizeof wrapper);
  EXPECT_EQ(code_of(event()), Code::kSuccess);
  EXPECT_EQ(status().status, 1);
}

TEST_F(StorageTest, ABadWrapperStallsUntilTheHostResets) {
  put(kWrapper, Wrapper{.signature = 1});
  transfer(slot_, kDataOut, kWrapper, sizeof(Wrapper));
  EXPECT_EQ(code_of(event()), Code::kStall);
  EXPECT_EQ(endpoint_state(slot_, kDataOut), 2u);
  transfer(slot_, kDataIn, kStatus, 13);
  EXPECT_EQ(code_of(event()), Code::kStall);
  EXPECT_EQ(control(slot_, 0x21, 0xFF, 0, 0, 0), Code::kSuccess);
  for (const unsigned index : {kDataIn, kDataOut}) {
    const uint16_t address = index == kDataIn ? 0x81 : 0x02;
    EXPECT_EQ(control(slot_, 0x02, 1, 0, address, 0), Code::kSuccess);
    EXPECT_EQ(command(kResetEndpoint, slot_, 0, index << 16), Code::kSuccess);
    auto& its = ring(slot_, index);
    EXPECT_EQ(command(kSetTrDequeue, slot_, (its.base + 16 * its.enqueue) | (its.cycle ? 1 : 0),
                      index << 16),
              Code::kSuccess);
  }
  EXPECT_EQ(run({0x00}, 0, false).status, 0);
}

TEST_F(StorageTest, AResetLeavesACommandThatIsUnderWayBehind) {
  disk_.hold = true;
  send(transfer10(0x28, 0, 1), 512, true);
  EXPECT_EQ(control(slot_, 0x21, 0xFF, 0, 0, 0), Code::kSuccess);
  disk_.release();
  EXPECT_EQ(run({0x12, 0, 0, 0, 36, 0}, 36, true).status, 0);
}

TEST_F(StorageTest, MoreDataThanItHoldsIsRefused) {
  send(transfer10(0x28, 0, 1), MassStorage::kMostData + 1, true);
  transfer(slot_, kDataIn, kData, 512);
  EXPECT_EQ(code_of(event()), Code::kSuccess);
  EXPECT_EQ(ram(kData, 512)[5], 0);
}

}  // namespace
}  // namespace limen::usb
