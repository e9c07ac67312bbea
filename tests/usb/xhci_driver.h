// A driver of an xHCI controller for tests: rings and contexts by hand, one device at a time.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "pci/pci_bus.h"
#include "usb/xhci/xhci.h"

namespace limen::usb {

struct Line final : irq::InterruptSink {
  void set_line(unsigned, bool now) override { level = now; }
  bool level = false;
};
struct Messages final : irq::MsiSink {
  void send_msi(const irq::MsiMessage& message) override { sent.push_back(message.data); }
  std::vector<uint32_t> sent;
};

class XhciDriver : public testing::Test {
 protected:
  static constexpr uint64_t kRam = 4 << 20, kContexts = 0x1000, kCommands = 0x2000,
                            kSegments = 0x3000, kEvents = 0x4000, kInput = 0x9000, kOutput = 0xA000,
                            kRings = 0x1'0000, kData = 0x10'0000;
  static constexpr unsigned kRingBlocks = 64, kEventBlocks = 32;

  struct Ring {
    uint64_t base = 0;
    unsigned enqueue = 0;
    bool cycle = true;
  };

  XhciDriver() {
    const memory::GuestMemory::Layout layout{{0}, kRam};
    memory_ = *memory::GuestMemory::create(std::span(&layout, 1));
    loop_ = *EventLoop::create(EventLoop::Time::kManual);
    controller_ = *Xhci::create({}, *memory_, *loop_);
    EXPECT_TRUE(bus_.attach(*controller_).has_value());
    bus_.connect_interrupts(line_);
    EXPECT_TRUE(pci::assign_resources(bus_, {0xC000'0000, 1 << 20}, {0xC000, 0x1000}).has_value());
    controller_->config_write(4, 2, 7);
    base_ = *controller_->bar_mapping(Xhci::kRegisterBar);
  }

  uint32_t get(uint32_t offset) { return static_cast<uint32_t>(mmio_.read(base_ + offset, 4)); }
  void set(uint32_t offset, uint64_t value, unsigned size = 4) {
    mmio_.write(base_ + offset, size, value);
  }
  uint32_t operational(uint32_t offset) { return get(xhci::kOperational + offset); }
  uint32_t port(unsigned number) { return get(xhci::kPorts + 16 * (number - 1)); }
  void set_port(unsigned number, uint32_t value) { set(xhci::kPorts + 16 * (number - 1), value); }

  template <typename T>
  void put(uint64_t at, const T& value) {
    ASSERT_TRUE(memory_->write({at}, std::as_bytes(std::span(&value, 1))).has_value());
  }
  template <typename T>
  T peek(uint64_t at) {
    T value{};
    EXPECT_TRUE(memory_->read({at}, std::as_writable_bytes(std::span(&value, 1))).has_value());
    return value;
  }
  std::span<uint8_t> ram(uint64_t at, size_t bytes) {
    const auto span = memory_->span({at}, bytes);
    return {reinterpret_cast<uint8_t*>(span.data()), span.size()};
  }

  void start() {
    set(xhci::kOperational + xhci::kConfig, 8);
    set(xhci::kOperational + xhci::kDcbaap, kContexts, 8);
    set(xhci::kOperational + xhci::kCrcr, kCommands | 1, 8);
    commands_ = {.base = kCommands};
    put(kSegments, uint64_t{kEvents});
    put(kSegments + 8, uint64_t{kEventBlocks});
    const uint32_t interrupter = xhci::kRuntime + xhci::kInterrupters;
    set(interrupter + xhci::kErstSz, 1);
    set(interrupter + xhci::kErdp, kEvents, 8);
    set(interrupter + xhci::kErstBa, kSegments, 8);
    set(interrupter + xhci::kIman, xhci::iman::kEnabled);
    set(xhci::kOperational + xhci::kUsbCmd, xhci::cmd::kRun | xhci::cmd::kInterrupts);
    EXPECT_EQ(operational(xhci::kUsbSts) & xhci::sts::kHalted, 0u);
  }

  /// Puts a block on a ring, the last of which is a link to the first.
  uint64_t push(Ring& ring, xhci::Trb trb) {
    const uint64_t at = ring.base + 16 * ring.enqueue;
    trb.control = (trb.control & ~1u) | (ring.cycle ? 1 : 0);
    put(at, trb);
    if (++ring.enqueue == kRingBlocks - 1) {
      put(ring.base + 16 * ring.enqueue,
          xhci::Trb{.parameter = ring.base,
                    .control = xhci::kLink << 10 | xhci::trb::kToggleCycle |
                               (trb.control & xhci::trb::kChain) | (ring.cycle ? 1u : 0u)});
      ring.enqueue = 0;
      ring.cycle = !ring.cycle;
    }
    return at;
  }

  /// The next event; type 0: there is none.
  xhci::Trb event(bool acknowledge = true) {
    const auto trb = peek<xhci::Trb>(kEvents + 16 * event_);
    if (trb.cycle() != event_cycle_) return {};
    if (++event_ == kEventBlocks) {
      event_ = 0;
      event_cycle_ = !event_cycle_;
    }
    if (acknowledge) take_events();
    return trb;
  }
  void take_events() {
    set(xhci::kRuntime + xhci::kInterrupters + xhci::kErdp,
        kEvents + 16 * event_ + xhci::kHandlerBusy, 8);
  }
  /// The next event that is no port's.
  xhci::Trb event_but_ports() {
    auto found = event();
    while (found.type() == xhci::kPortStatusChange) found = event();
    return found;
  }
  static xhci::Code code_of(const xhci::Trb& event) {
    return static_cast<xhci::Code>(event.status >> 24);
  }
  static uint32_t length_of(const xhci::Trb& event) { return event.status & 0xFF'FFFF; }

  xhci::Code command(uint32_t type, uint8_t slot = 0, uint64_t parameter = 0,
                     uint32_t control = 0) {
    push(commands_,
         {.parameter = parameter, .control = type << 10 | uint32_t{slot} << 24 | control});
    set(xhci::kDoorbells, 0);
    const auto done = event_but_ports();
    EXPECT_EQ(done.type(), xhci::kCommandCompletion);
    last_slot_ = static_cast<uint8_t>(done.control >> 24);
    return code_of(done);
  }

  uint64_t output(uint8_t slot) const { return kOutput + 0x800 * slot; }
  Ring& ring(uint8_t slot, unsigned index) {
    auto& ring = rings_[{slot, index}];
    if (ring.base == 0) ring.base = kRings + 0x1'0000 * slot + 0x800 * index;
    return ring;
  }
  void put_endpoint(uint8_t slot, unsigned index, uint32_t type) {
    put(kInput + 32 * (index + 1),
        xhci::Context{0, type << 3 | 64u << 16, static_cast<uint32_t>(ring(slot, index).base) | 1u,
                      0});
  }

  /// Resets the port of a USB 2 device, and gives it a slot and an address.
  uint8_t enumerate(unsigned port_number) {
    set_port(port_number, xhci::portsc::kPower | xhci::portsc::kReset);
    EXPECT_NE(port(port_number) & xhci::portsc::kEnabled, 0u);
    EXPECT_EQ(command(xhci::kEnableSlot), xhci::Code::kSuccess);
    const uint8_t slot = last_slot_;
    put(kContexts + 8 * slot, output(slot));
    put(kInput, xhci::Context{0, 3});
    put(kInput + 32, xhci::Context{1u << 27, port_number << 16});
    put_endpoint(slot, 1, xhci::kControl);
    EXPECT_EQ(command(xhci::kAddressDevice, slot, kInput), xhci::Code::kSuccess);
    return slot;
  }
  void configure(uint8_t slot, std::vector<std::pair<unsigned, uint32_t>> endpoints) {
    uint32_t add = 1;
    for (const auto& [index, type] : endpoints) {
      add |= 1u << index;
      put_endpoint(slot, index, type);
    }
    put(kInput, xhci::Context{0, add});
    put(kInput + 32, xhci::Context{31u << 27});
    EXPECT_EQ(command(xhci::kConfigureEndpoint, slot, kInput), xhci::Code::kSuccess);
    EXPECT_EQ(control(slot, 0x00, 9, 1, 0, 0), xhci::Code::kSuccess);
  }

  void ring_doorbell(uint8_t slot, unsigned index) { set(xhci::kDoorbells + 4u * slot, index); }
  /// A control transfer whose data are at kData; the code of its last event.
  xhci::Code control(uint8_t slot, uint8_t type, uint8_t request, uint16_t value, uint16_t index,
                     uint16_t length) {
    using namespace xhci;
    auto& its = ring(slot, 1);
    const bool to_host = (type & 0x80) != 0;
    push(its, {.parameter = type | uint64_t{request} << 8 | uint64_t{value} << 16 |
                            uint64_t{index} << 32 | uint64_t{length} << 48,
               .status = 8,
               .control = kSetupStage << 10 | trb::kImmediate});
    if (length != 0)
      push(its, {.parameter = kData,
                 .status = length,
                 .control = kDataStage << 10 | trb::kShortPacketEvent |
                            (to_host ? trb::kDirectionIn : 0)});
    push(its, {.control = kStatusStage << 10 | trb::kInterrupt});
    ring_doorbell(slot, 1);
    auto done = event_but_ports();
    transferred_ = length;
    if (code_of(done) == Code::kShortPacket) {
      transferred_ = length - length_of(done);
      done = event_but_ports();
    }
    EXPECT_EQ(done.type(), kTransferEvent);
    return code_of(done);
  }
  /// Asks for a transfer; its event comes when it may.
  uint64_t transfer(uint8_t slot, unsigned index, uint64_t at, uint32_t length) {
    const uint64_t where = push(
        ring(slot, index),
        {.parameter = at,
         .status = length,
         .control = xhci::kNormal << 10 | xhci::trb::kInterrupt | xhci::trb::kShortPacketEvent});
    ring_doorbell(slot, index);
    return where;
  }
  uint32_t endpoint_state(uint8_t slot, unsigned index) {
    return peek<uint32_t>(output(slot) + 32 * index) & 7;
  }

  memory::IoSpace ports_{"ports"}, mmio_{"mmio"};
  Line line_;
  Messages messages_;
  std::unique_ptr<memory::GuestMemory> memory_;
  std::unique_ptr<EventLoop> loop_;
  pci::PciBus bus_{"pcie.0", {.ports = &ports_, .mmio = &mmio_, .msi = &messages_}};
  std::unique_ptr<Xhci> controller_;
  uint64_t base_ = 0;
  Ring commands_;
  std::map<std::pair<uint8_t, unsigned>, Ring> rings_;
  unsigned event_ = 0;
  bool event_cycle_ = true;
  uint8_t last_slot_ = 0;
  uint32_t transferred_ = 0;
};

}  // namespace limen::usb
