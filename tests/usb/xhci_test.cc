// xHCI by its registers and rings: starting, slots, transfers, errors, ports, interrupts.
#include "usb/xhci/xhci.h"

#include <gtest/gtest.h>

#include <array>

#include "xhci_driver.h"

namespace limen::usb {
namespace {

using namespace xhci;

/// Gives what it has on an interrupt endpoint, takes what comes on a bulk endpoint.
class Echo final : public UsbDevice {
 public:
  static constexpr uint8_t kGives = kIn | 1, kTakes = 2;

  Echo() : UsbDevice(describe()) {}
  void give_now(std::vector<uint8_t> bytes) {
    waiting.push_back(std::move(bytes));
    ready(kGives);
  }

  std::deque<std::vector<uint8_t>> waiting;
  std::vector<uint8_t> taken;
  unsigned resets = 0;

 private:
  static Description describe() {
    Description description{.vendor = 1, .product = 2, .name = "Echo", .wakes = true};
    const Interface interface {
      .device_class = 0xFF, .endpoints = {
        {.address = kGives,
         .kind = EndpointDescription::Kind::kInterrupt,
         .packet_bytes = 64,
         .interval = 4},
        {.address = kTakes, .packet_bytes = 512}
      }
    };
    description.speeds.emplace_back(Speed::kHigh, interface);
    return description;
  }
  Outcome class_request(const Setup& setup, std::span<uint8_t> data) override {
    if (setup.request != 1) return {.status = Status::kStall};
    if (setup.to_host()) return give(taken, data);
    taken.assign(data.begin(), data.end());
    return {};
  }
  Outcome endpoint_transfer(uint8_t endpoint, std::span<const iovec> buffers,
                            uint64_t bytes) override {
    if (endpoint == kTakes) {
      for (const auto& buffer : buffers) {
        const auto* from = static_cast<const uint8_t*>(buffer.iov_base);
        taken.insert(taken.end(), from, from + buffer.iov_len);
      }
      return {.bytes = bytes};
    }
    if (waiting.empty()) return {.status = Status::kNotReady};
    const auto content = waiting.front();
    waiting.pop_front();
    size_t done = 0;
    for (const auto& buffer : buffers) {
      const size_t count = std::min(buffer.iov_len, content.size() - done);
      std::memcpy(buffer.iov_base, content.data() + done, count);
      done += count;
    }
    return {.bytes = done};
  }
  void device_reset() override { ++resets; }
};

class XhciTest : public XhciDriver {
 protected:
  static constexpr unsigned kGives = 3, kTakes = 4;  // device context indexes

  Echo* plug(unsigned connector = 1) {
    auto device = std::make_unique<Echo>();
    auto* raw = device.get();
    EXPECT_TRUE(controller_->plug(std::move(device), connector).has_value());
    return raw;
  }
  uint8_t ready_device() {
    start();
    const uint8_t slot = enumerate(1);
    configure(slot, {{kGives, kInterruptIn}, {kTakes, kBulkOut}});
    return slot;
  }
};

TEST_F(XhciTest, TellsWhatItHas) {
  EXPECT_EQ(controller_->config_read(0, 4), 0x000D'1B36u);
  EXPECT_EQ(controller_->config_read(8, 4) >> 8, 0x0C0330u);
  EXPECT_EQ(get(kCapLengthVersion), 0x0100'0040u);
  EXPECT_EQ(get(kHcsParams1), 64u | 16u << 8 | 8u << 24);
  EXPECT_EQ(get(kDoorbellOffset), 0x2000u);
  EXPECT_EQ(get(kRuntimeOffset), 0x1000u);
  // Ports 1 to 4 are of USB 2, 5 to 8 of USB 3.
  const uint32_t extended = (get(kHccParams1) >> 16) * 4;
  EXPECT_EQ(get(extended), 2u | 4u << 8 | 2u << 24);
  EXPECT_EQ(get(extended + 8), 1u | 4u << 8);
  EXPECT_EQ(get(extended + 16), 2u | 3u << 24);
  EXPECT_EQ(get(extended + 24), 5u | 4u << 8);
}

TEST_F(XhciTest, RefusesPropertiesOutOfRange) {
  EXPECT_NE(Xhci::create({.usb2_ports = 16}, *memory_, *loop_).error().message.find("p2=16"),
            std::string::npos);
  EXPECT_FALSE(Xhci::create({.usb3_ports = 0}, *memory_, *loop_).has_value());
  EXPECT_FALSE(Xhci::create({.slots = 65}, *memory_, *loop_).has_value());
}

TEST_F(XhciTest, AddressesADeviceAndReadsItsDescriptor) {
  plug();
  start();
  const uint8_t slot = enumerate(1);
  EXPECT_EQ(slot, 1);
  EXPECT_EQ(peek<uint32_t>(output(slot) + 12), 2u << 27 | slot);  // addressed
  EXPECT_EQ(endpoint_state(slot, 1), 1u);
  EXPECT_EQ(controller_->address(1), slot);
  ASSERT_EQ(control(slot, 0x80, 6, 0x0100, 0, 18), Code::kSuccess);
  EXPECT_EQ(ram(kData, 18)[0], 18);
  EXPECT_EQ(ram(kData, 18)[8], 1);
  // A longer wish is cut short.
  ASSERT_EQ(control(slot, 0x80, 6, 0x0100, 0, 64), Code::kSuccess);
  EXPECT_EQ(transferred_, 18u);
}

TEST_F(XhciTest, TakesAndGivesDataOfControlTransfers) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  std::memcpy(ram(kData, 5).data(), "hello", 5);
  ASSERT_EQ(control(slot, 0x21, 1, 0, 0, 5), Code::kSuccess);
  EXPECT_EQ(std::string(device->taken.begin(), device->taken.end()), "hello");
  std::ranges::fill(ram(kData, 5), uint8_t{0});
  ASSERT_EQ(control(slot, 0xA1, 1, 0, 0, 5), Code::kSuccess);
  EXPECT_EQ(ram(kData, 5)[4], 'o');
}

TEST_F(XhciTest, StallHaltsTheEndpointUntilItIsReset) {
  plug();
  const uint8_t slot = ready_device();
  EXPECT_EQ(control(slot, 0x21, 77, 0, 0, 0), Code::kStall);
  EXPECT_EQ(endpoint_state(slot, 1), 2u);  // halted
  EXPECT_EQ(command(kSetTrDequeue, slot, ring(slot, 1).base | 1, 1u << 16),
            Code::kContextStateError);
  EXPECT_EQ(command(kResetEndpoint, slot, 0, 1u << 16), Code::kSuccess);
  EXPECT_EQ(endpoint_state(slot, 1), 3u);  // stopped
  auto& its = ring(slot, 1);
  EXPECT_EQ(
      command(kSetTrDequeue, slot, (its.base + 16 * its.enqueue) | (its.cycle ? 1 : 0), 1u << 16),
      Code::kSuccess);
  EXPECT_EQ(control(slot, 0x80, 6, 0x0100, 0, 18), Code::kSuccess);
  EXPECT_EQ(endpoint_state(slot, 1), 1u);
}

TEST_F(XhciTest, WaitsForADeviceThatHasNothingYet) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  const uint64_t where = transfer(slot, kGives, kData, 64);
  EXPECT_EQ(event().type(), 0u);
  device->give_now({1, 2, 3});
  const auto done = event();
  EXPECT_EQ(done.type(), kTransferEvent);
  EXPECT_EQ(done.parameter, where);
  EXPECT_EQ(code_of(done), Code::kShortPacket);
  EXPECT_EQ(length_of(done), 61u);
  EXPECT_EQ(done.control >> 24, slot);
  EXPECT_EQ(done.control >> 16 & 0x1F, kGives);
  EXPECT_EQ(ram(kData, 3)[2], 3);
}

TEST_F(XhciTest, StoppingAnEndpointTellsOfTheTransferThatWaits) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  const uint64_t where = transfer(slot, kGives, kData, 64);
  push(commands_, {.control = kStopEndpoint << 10 | uint32_t{slot} << 24 | kGives << 16});
  set(kDoorbells, 0);
  const auto stopped = event();
  EXPECT_EQ(code_of(stopped), Code::kStopped);
  EXPECT_EQ(stopped.parameter, where);
  EXPECT_EQ(length_of(stopped), 64u);
  EXPECT_EQ(code_of(event()), Code::kSuccess);
  EXPECT_EQ(endpoint_state(slot, kGives), 3u);
  EXPECT_EQ(peek<uint64_t>(output(slot) + 32 * kGives + 8), where | 1);
  device->give_now({9});
  EXPECT_EQ(event().type(), 0u);
  // The doorbell starts it again where it stood.
  ring_doorbell(slot, kGives);
  EXPECT_EQ(event().parameter, where);
}

TEST_F(XhciTest, ChainedBlocksAreOneTransferAcrossALink) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  // The fourth descriptor lies across the ring's end.
  for (unsigned round = 0; round < 4; ++round) {
    device->taken.clear();
    for (unsigned i = 0; i < 17; ++i) {
      ram(kData + i, 1)[0] = static_cast<uint8_t>(i);
      push(ring(slot, kTakes),
           {.parameter = kData + i,
            .status = 1,
            .control = kNormal << 10 | (i < 16 ? trb::kChain : trb::kInterrupt)});
    }
    ring_doorbell(slot, kTakes);
    const auto done = event();
    EXPECT_EQ(code_of(done), Code::kSuccess);
    EXPECT_EQ(length_of(done), 0u);
    ASSERT_EQ(device->taken.size(), 17u);
    EXPECT_EQ(device->taken[16], 16);
  }
}

TEST_F(XhciTest, EventDataTellHowMuchWasMoved) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  device->waiting.push_back(std::vector<uint8_t>(40, 7));
  auto& its = ring(slot, kGives);
  push(its, {.parameter = kData, .status = 32, .control = kNormal << 10 | trb::kChain});
  push(its, {.parameter = kData + 32, .status = 32, .control = kNormal << 10 | trb::kChain});
  push(its, {.parameter = 0x1234'5678'9ABC, .control = kEventData << 10 | trb::kInterrupt});
  ring_doorbell(slot, kGives);
  const auto done = event();
  EXPECT_EQ(done.parameter, 0x1234'5678'9ABCu);
  EXPECT_EQ(done.control & trb::kEventDataFlag, trb::kEventDataFlag);
  EXPECT_EQ(code_of(done), Code::kShortPacket);
  EXPECT_EQ(length_of(done), 40u);
}

TEST_F(XhciTest, MemoryThatIsNoneIsAnErrorOfTheEndpoint) {
  plug();
  const uint8_t slot = ready_device();
  transfer(slot, kTakes, kRam + 0x1000, 16);
  EXPECT_EQ(code_of(event()), Code::kTrbError);
  EXPECT_EQ(endpoint_state(slot, kTakes), 4u);
}

TEST_F(XhciTest, CommandsForSlotsThatAreNotThereFail) {
  start();
  EXPECT_EQ(command(kDisableSlot, 3), Code::kSlotNotEnabled);
  EXPECT_EQ(command(kDisableSlot, 0), Code::kTrbError);
  EXPECT_EQ(command(kNoOpCommand), Code::kSuccess);
  EXPECT_EQ(command(63), Code::kTrbError);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(command(kEnableSlot), Code::kSuccess);
  EXPECT_EQ(command(kEnableSlot), Code::kNoSlots);
  EXPECT_EQ(command(kStopEndpoint, 1, 0, 3u << 16), Code::kEndpointNotEnabled);
}

TEST_F(XhciTest, AnEmptyPortHasNoDeviceToAddress) {
  start();
  EXPECT_EQ(command(kEnableSlot), Code::kSuccess);
  put(kContexts + 8, output(1));
  put(kInput, Context{0, 3});
  put(kInput + 32, Context{1u << 27, 1u << 16});
  put_endpoint(1, 1, kControl);
  EXPECT_EQ(command(kAddressDevice, 1, kInput), Code::kTransactionError);
  put(kInput + 32, Context{1u << 27, 99u << 16});
  EXPECT_EQ(command(kAddressDevice, 1, kInput), Code::kParameterError);
}

TEST_F(XhciTest, PortsTellOfWhatComesAndGoes) {
  start();
  EXPECT_EQ(event().type(), 0u);
  EXPECT_EQ(port(2) & portsc::kConnected, 0u);
  plug(2);
  auto told = event();
  EXPECT_EQ(told.type(), kPortStatusChange);
  EXPECT_EQ(told.parameter >> 24, 2u);
  EXPECT_EQ(port(2) & (portsc::kConnected | portsc::kConnectChange | portsc::kEnabled),
            portsc::kConnected | portsc::kConnectChange);
  EXPECT_EQ((port(2) & portsc::kSpeedMask) >> portsc::kSpeedShift, 3u);  // high
  set_port(2, portsc::kPower | portsc::kConnectChange);
  EXPECT_EQ(port(2) & portsc::kConnectChange, 0u);
  set_port(2, portsc::kPower | portsc::kReset);
  EXPECT_NE(port(2) & portsc::kResetChange, 0u);
  EXPECT_EQ(event().type(), kPortStatusChange);
  set_port(2, portsc::kPower | portsc::kChanges);
  EXPECT_NE(controller_->unplug(2), nullptr);
  EXPECT_EQ(event().type(), kPortStatusChange);
  EXPECT_EQ(port(2) & (portsc::kConnected | portsc::kEnabled), 0u);
  EXPECT_EQ(controller_->unplug(2), nullptr);
}

TEST_F(XhciTest, TransfersOfADeviceThatIsGoneFail) {
  plug();
  const uint8_t slot = ready_device();
  transfer(slot, kGives, kData, 64);
  auto device = controller_->unplug(1);
  static_cast<Echo*>(device.get())->give_now({1});  // nobody hears
  plug();
  ring_doorbell(slot, kGives);
  EXPECT_EQ(code_of(event_but_ports()), Code::kTransactionError);
}

TEST_F(XhciTest, ConnectorsAreGivenOutInOrder) {
  for (unsigned expected = 1; expected <= 4; ++expected)
    EXPECT_EQ(*controller_->plug(std::make_unique<Echo>(), 0), expected);
  EXPECT_FALSE(controller_->plug(std::make_unique<Echo>(), 0).has_value());
  EXPECT_NE(controller_->plug(std::make_unique<Echo>(), 3).error().message.find("port 3"),
            std::string::npos);
  EXPECT_FALSE(controller_->plug(std::make_unique<Echo>(), 5).has_value());
}

TEST_F(XhciTest, ASuspendedPortWakesUp) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  EXPECT_EQ(control(slot, 0x00, 3, 1, 0, 0), Code::kSuccess);  // it may wake the host
  set_port(1, portsc::kPower | portsc::kChanges);
  const auto write_link = [&](Link link) {
    set_port(
        1, portsc::kPower | portsc::kLinkWrite | static_cast<uint32_t>(link) << portsc::kLinkShift);
  };
  const auto link = [&] {
    return static_cast<Link>((port(1) & portsc::kLinkMask) >> portsc::kLinkShift);
  };
  write_link(Link::kU3);
  EXPECT_EQ(link(), Link::kU3);
  device->give_now({1});
  EXPECT_EQ(link(), Link::kResume);
  EXPECT_NE(port(1) & portsc::kLinkChange, 0u);
  EXPECT_EQ(event().type(), kPortStatusChange);
  write_link(Link::kU0);
  EXPECT_EQ(link(), Link::kU0);
}

TEST_F(XhciTest, InterruptsByLineUntilTheDriverHasSeenThem) {
  start();
  plug();
  EXPECT_TRUE(line_.level);
  const uint32_t iman = kRuntime + kInterrupters + kIman;
  EXPECT_EQ(get(iman), iman::kEnabled | iman::kPending);
  set(iman, iman::kEnabled | iman::kPending);
  EXPECT_FALSE(line_.level);
  EXPECT_EQ(event().type(), kPortStatusChange);
  EXPECT_FALSE(line_.level);
  controller_->config_write(4, 2, 7 | 1 << 10);  // no INTx
  set_port(1, portsc::kPower | portsc::kChanges);
  set_port(1, portsc::kPower | portsc::kReset);
  EXPECT_FALSE(line_.level);
}

TEST_F(XhciTest, InterruptsByMessage) {
  const uint64_t table = *controller_->bar_mapping(Xhci::kMsixBar);
  mmio_.write(table, 8, 0xFEE0'0000);
  mmio_.write(table + 8, 4, 0x45);
  mmio_.write(table + 12, 4, 0);
  uint16_t capability = static_cast<uint16_t>(controller_->config_read(0x34, 1));
  while (controller_->config_read(capability, 1) != 0x11)
    capability = static_cast<uint16_t>(controller_->config_read(capability + 1, 1));
  controller_->config_write(capability + 2, 2, 0x8000);
  start();
  plug();
  EXPECT_EQ(messages_.sent, std::vector<uint32_t>{0x45});
  EXPECT_FALSE(line_.level);
  // None follows before the driver has dealt with the first.
  set_port(1, portsc::kPower | portsc::kChanges);
  set_port(1, portsc::kPower | portsc::kReset);
  EXPECT_EQ(messages_.sent.size(), 1u);
  EXPECT_EQ(event(false).type(), kPortStatusChange);
  take_events();  // one is left: it is told again
  EXPECT_EQ(messages_.sent.size(), 2u);
  EXPECT_EQ(event().type(), kPortStatusChange);
  EXPECT_EQ(messages_.sent.size(), 2u);
}

TEST_F(XhciTest, EventsWaitForRoom) {
  start();
  for (unsigned i = 0; i < 2 * kEventBlocks; ++i) {
    push(commands_, {.control = kNoOpCommand << 10});
    set(kDoorbells, 0);
  }
  unsigned events = 0;
  while (event().type() == kCommandCompletion) ++events;
  // The ring of commands has room for fewer, and what was overwritten was done before or is not.
  EXPECT_GE(events, kEventBlocks);
  EXPECT_EQ(operational(kUsbSts) & sts::kControllerError, 0u);
}

TEST_F(XhciTest, ARingOfLinksStopsTheController) {
  start();
  put(kCommands, Trb{.parameter = kCommands, .control = kLink << 10 | 1});
  set(kDoorbells, 0);
  EXPECT_EQ(operational(kUsbSts) & (sts::kControllerError | sts::kHalted),
            sts::kControllerError | sts::kHalted);
  set(kOperational + kUsbCmd, cmd::kReset);
  EXPECT_EQ(operational(kUsbSts), sts::kHalted);
}

TEST_F(XhciTest, ARingThatNeverEndsStopsTheController) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  auto& its = ring(slot, kTakes);
  put(its.base, Trb{.parameter = kData, .status = 0, .control = kNormal << 10 | 1});
  put(its.base + 16, Trb{.parameter = its.base, .control = kLink << 10 | 1});
  ring_doorbell(slot, kTakes);
  EXPECT_NE(operational(kUsbSts) & sts::kControllerError, 0u);
  EXPECT_TRUE(device->taken.empty());
}

TEST_F(XhciTest, ResetForgetsSlotsAndKeepsDevices) {
  auto* device = plug();
  const uint8_t slot = ready_device();
  const unsigned resets = device->resets;
  controller_->reset();
  EXPECT_GT(device->resets, resets);
  EXPECT_EQ(controller_->address(1), 0u);
  EXPECT_EQ(controller_->device(1), device);
  EXPECT_EQ(slot, 1);
}

TEST_F(XhciTest, TheCommandRingStopsWhenTold) {
  start();
  EXPECT_EQ(command(kNoOpCommand), Code::kSuccess);
  EXPECT_EQ(operational(kCrcr) & crcr::kRunning, crcr::kRunning);
  set(kOperational + kCrcr, crcr::kAbort);
  const auto stopped = event();
  EXPECT_EQ(code_of(stopped), Code::kCommandRingStopped);
  EXPECT_EQ(stopped.parameter, kCommands + 16);
  EXPECT_EQ(operational(kCrcr) & crcr::kRunning, 0u);
}

TEST_F(XhciTest, ResetDeviceAndDeconfigureDropItsEndpoints) {
  plug();
  const uint8_t slot = ready_device();
  EXPECT_EQ(peek<uint32_t>(output(slot) + 12) >> 27, 3u);  // configured
  EXPECT_EQ(command(kConfigureEndpoint, slot, 0, trb::kDeconfigure), Code::kSuccess);
  EXPECT_EQ(peek<uint32_t>(output(slot) + 12) >> 27, 2u);
  EXPECT_EQ(endpoint_state(slot, kGives), 0u);
  EXPECT_EQ(command(kResetDevice, slot), Code::kSuccess);
  EXPECT_EQ(peek<uint32_t>(output(slot) + 12), 1u << 27);
  EXPECT_EQ(command(kResetDevice, slot), Code::kContextStateError);
  EXPECT_EQ(command(kDisableSlot, slot), Code::kSuccess);
  EXPECT_EQ(command(kEnableSlot), Code::kSuccess);
  EXPECT_EQ(last_slot_, slot);
}

}  // namespace
}  // namespace limen::usb
