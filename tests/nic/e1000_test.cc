#include "nic/e1000/e1000.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <condition_variable>
#include <memory>
#include <mutex>

#include "base/unique_fd.h"
#include "net/packets.h"
#include "pci/pci_bus.h"

namespace limen::nic {
namespace {

using namespace e1000;
using net::Bytes;

constexpr uint64_t kRegisters = 0xC000'0000;
constexpr uint64_t kTransmitRing = 0x1000, kReceiveRing = 0x2000, kData = 0x1'0000,
                   kBuffers = 0x10'0000;
constexpr uint32_t kEntries = 16;

struct Line final : irq::InterruptSink {
  void set_line(unsigned, bool new_level) override {
    const std::lock_guard lock(mutex);
    level = new_level;
    changed.notify_all();
  }
  bool wait(bool wanted) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), [&] { return level == wanted; });
  }
  std::mutex mutex;
  std::condition_variable changed;
  bool level = false;
};
struct NullMsi final : irq::MsiSink {
  void send_msi(const irq::MsiMessage&) override {}
};

/// A card whose cable ends in a socket that the test holds.
class E1000Test : public testing::Test {
 protected:
  void SetUp() override {
    const memory::GuestMemory::Layout layout{{0}, 4 << 20};
    memory_ = *memory::GuestMemory::create(std::span(&layout, 1));
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    wire_.reset(ends[0]);
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    network_ = *net::Network::create();
    ASSERT_TRUE(network_->add(
        *net::parse_backend({{"type", "socket"}, {"id", "n0"}, {"fd", std::to_string(ends[1])}})));
    card_ = *E1000::create({.mac = kMac, .netdev = "n0"}, *memory_, *network_);
    ASSERT_TRUE(bus_.attach(*card_));
    bus_.connect_interrupts(line_);
    power_on();
  }
  void TearDown() override { card_.reset(); }
  void power_on() {
    ASSERT_TRUE(pci::assign_resources(bus_, {kRegisters, 0x1000'0000}, {0xC000, 0x1000}));
    card_->config_write(pci::reg::kCommand, 2, 7);
  }

  uint32_t get(uint32_t offset) {
    return static_cast<uint32_t>(mmio_.read(kRegisters + offset, 4));
  }
  void set(uint32_t offset, uint32_t value) { mmio_.write(kRegisters + offset, 4, value); }
  void start(uint32_t receive_control = rctl::kEnable | rctl::kBroadcast | rctl::kStripCrc) {
    set(kTdbal, kTransmitRing);
    set(kTdlen, kEntries * 16);
    set(kTctl, tctl::kEnable);
    set(kRdbal, kReceiveRing);
    set(kRdlen, kEntries * 16);
    for (uint32_t i = 0; i < kEntries; ++i)
      put(kReceiveRing + 16 * i, ReceiveDescriptor{kBuffers + 0x4000ull * i, 0, 0, 0, 0, 0});
    set(kRctl, receive_control);
    set(kRdt, kEntries - 1);
  }
  template <typename T>
  void put(uint64_t address, const T& value) {
    std::memcpy(memory_->span({address}, sizeof value).data(), &value, sizeof value);
  }
  template <typename T>
  T at(uint64_t address) {
    T value;
    std::memcpy(&value, memory_->span({address}, sizeof value).data(), sizeof value);
    return value;
  }
  void write(uint64_t address, const Bytes& bytes) {
    std::ranges::copy(bytes, memory_->span({address}, bytes.size()).begin());
  }
  Bytes read(uint64_t address, size_t count) {
    const auto bytes = memory_->span({address}, count);
    return {bytes.begin(), bytes.end()};
  }
  void describe(uint64_t address, uint32_t length, uint32_t command, uint8_t options = 0,
                uint16_t special = 0) {
    put(kTransmitRing + 16 * tail_,
        TransmitDescriptor{address, length | command << 24, 0, options, special});
    tail_ = (tail_ + 1) % kEntries;
  }
  void send() { set(kTdt, tail_); }
  Bytes from_wire() {
    Bytes frame(70000);
    const ssize_t got = ::recv(wire_.get(), frame.data(), frame.size(), 0);
    frame.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return frame;
  }
  void to_wire(const Bytes& frame) {
    ASSERT_EQ(::send(wire_.get(), frame.data(), frame.size(), 0),
              static_cast<ssize_t>(frame.size()));
  }
  static Bytes frame_to(std::initializer_list<unsigned> target, unsigned mark, size_t size = 100) {
    Bytes frame(size, static_cast<std::byte>(mark));
    size_t i = 0;
    for (const unsigned byte : target) frame[i++] = static_cast<std::byte>(byte);
    net::store16(frame, 12, net::kEtherTypeIp4);
    return frame;
  }
  /// Waits for the next received frame; its descriptor.
  ReceiveDescriptor received() {
    const uint64_t place = kReceiveRing + 16ull * next_++;
    for (int i = 0; i < 20'000; ++i) {
      const auto status =
          std::atomic_ref(reinterpret_cast<uint8_t&>(memory_->span({place + 12}, 1)[0]));
      if ((status.load(std::memory_order_acquire) & receive_status::kDone) != 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return at<ReceiveDescriptor>(place);
  }
  unsigned next_mark() {
    const auto descriptor = received();
    return static_cast<unsigned>(read(descriptor.address + 50, 1)[0]);
  }

  static constexpr std::array<uint8_t, 6> kMac = {0x52, 0x54, 0, 1, 2, 3};
  std::unique_ptr<memory::GuestMemory> memory_;
  memory::IoSpace ports_{"ports"}, mmio_{"mmio"};
  NullMsi msi_;
  Line line_;
  pci::PciBus bus_{"pcie.0", {.ports = &ports_, .mmio = &mmio_, .msi = &msi_}};
  UniqueFd wire_;
  std::unique_ptr<net::Network> network_;
  std::unique_ptr<E1000> card_;
  uint32_t tail_ = 0, next_ = 0;
};

TEST_F(E1000Test, EepromGivesAddressAndChecksumThroughPinsAndRegister) {
  const auto by_pins = [&](unsigned word) {
    constexpr uint32_t kClock = 1, kSelect = 2, kIn = 4, kOut = 8;
    const auto clock = [&](bool in) {
      const uint32_t pins = kSelect | (in ? kIn : 0);
      set(kEecd, pins);
      set(kEecd, pins | kClock);
      const bool out = (get(kEecd) & kOut) != 0;
      set(kEecd, pins);
      return out;
    };
    set(kEecd, 0);
    set(kEecd, kSelect);
    for (int i = 8; i >= 0; --i) clock(((6u << 6 | word) >> i & 1) != 0);
    unsigned value = 0;
    for (int i = 0; i < 16; ++i) value = value << 1 | (clock(false) ? 1 : 0);
    set(kEecd, 0);
    return value;
  };
  unsigned sum = 0;
  for (unsigned word = 0; word < 64; ++word) {
    set(kEerd, word << 8 | 1);
    EXPECT_NE(get(kEerd) & 1u << 4, 0u);
    EXPECT_EQ(get(kEerd) >> 16, by_pins(word)) << word;
    sum += by_pins(word);
  }
  EXPECT_EQ(sum & 0xFFFF, 0xBABAu);
  EXPECT_EQ(by_pins(0), 0x5452u);
  EXPECT_EQ(by_pins(2), 0x0302u);
}

TEST_F(E1000Test, TransceiverAnswersAtItsAddressAlone) {
  constexpr uint32_t kRead = 2u << 26, kReady = 1u << 28, kMdioError = 1u << 30;
  set(kMdic, kRead | 1u << 21 | 2u << 16);
  EXPECT_EQ(get(kMdic) & 0xFFFF, 0x0141u);
  EXPECT_NE(get(kMdic) & kReady, 0u);
  set(kMdic, kRead | 2u << 21 | 2u << 16);
  EXPECT_NE(get(kMdic) & kMdioError, 0u);
}

TEST_F(E1000Test, LinkShowsInStatusTransceiverAndInterrupt) {
  EXPECT_NE(get(kStatus) & status::kLinkUp, 0u);
  set(kIms, cause::kLinkChange);
  ASSERT_TRUE(network_->set_link("n0", false));
  EXPECT_TRUE(line_.wait(true));
  EXPECT_EQ(get(kStatus) & status::kLinkUp, 0u);
  set(kMdic, 2u << 26 | 1u << 21 | 1u << 16);
  EXPECT_EQ(get(kMdic) & 4, 0u);
  EXPECT_EQ(get(kIcr), cause::kAsserted | cause::kLinkChange);
  EXPECT_TRUE(line_.wait(false));
  EXPECT_EQ(get(kIcr), 0u);
}

TEST_F(E1000Test, SendsALegacyFrameInPartsAndWritesBack) {
  start();
  const Bytes frame = net::counted(1000);
  write(kData, frame);
  describe(kData, 300, 0);
  describe(kData + 300, 700, transmit_command::kEndOfPacket | transmit_command::kReportStatus);
  set(kIms, cause::kTransmitted);
  send();
  EXPECT_EQ(from_wire(), frame);
  EXPECT_TRUE(line_.wait(true));
  EXPECT_EQ(get(kTdh), 2u);
  EXPECT_EQ(at<TransmitDescriptor>(kTransmitRing).status, 0);
  EXPECT_EQ(at<TransmitDescriptor>(kTransmitRing + 16).status, kDescriptorDone);
  EXPECT_EQ(get(kGptc), 1u);
  EXPECT_EQ(get(kGptc), 0u);  // cleared by reading
}

TEST_F(E1000Test, CutsALargeSegmentWithTheLengthsThatTheDriverLeftOut) {
  for (const unsigned version : {4u, 6u}) {
    if (version == 4) start();
    Bytes frame = net::packet(version, net::kProtocolTcp, net::counted(20'000));
    const auto layout = *net::parse_packet(frame);
    const size_t header = layout.transport + 20;
    net::store16(frame, layout.ip + (version == 4 ? 2 : 4), 0);
    if (version == 4) net::store16(frame, layout.ip + 10, 0);
    net::store16(frame, layout.transport + 16, 0x1234);  // whatever it holds
    write(kData, frame);
    const uint64_t low = layout.ip | (layout.ip + 10) << 8 | (layout.transport - 1) << 16;
    const uint64_t high = layout.transport | (layout.transport + 16) << 8;
    describe(high << 32 | low, 20'000,
             transmit_command::kExtended | transmit_command::kSegment |
                 transmit_command::kContextTcp |
                 (version == 4 ? transmit_command::kContextIp4 : 0u),
             static_cast<uint8_t>(header), 1448);
    const uint32_t command = transmit_command::kExtended | transmit_command::kSegment;
    describe(kData, static_cast<uint32_t>(header) | 1u << 20, command, kInsertTransportChecksum);
    describe(kData + header, 20'000 | 1u << 20,
             command | transmit_command::kEndOfPacket | transmit_command::kReportStatus);
    send();
    Bytes together;
    while (together.size() < 20'000) {
      const Bytes segment = from_wire();
      ASSERT_FALSE(segment.empty());
      ASSERT_LE(segment.size(), header + 1448);
      EXPECT_TRUE(net::checksums_right(segment));
      together.insert(together.end(), segment.begin() + static_cast<ptrdiff_t>(header),
                      segment.end());
    }
    EXPECT_EQ(together, net::counted(20'000));
  }
}

TEST_F(E1000Test, InsertsChecksumsAndAVlanTag) {
  start();
  set(kCtrl, get(kCtrl) | ctrl::kVlanMode);
  set(kVet, net::kEtherTypeVlan);
  Bytes frame = net::packet(4, net::kProtocolUdp, net::counted(500));
  net::store16(frame, 24, 0);
  write(kData, frame);
  describe((34ull | 40ull << 8) << 32 | 14u | 24u << 8 | 33u << 16, 0, transmit_command::kExtended);
  describe(kData, static_cast<uint32_t>(frame.size()) | 1u << 20,
           transmit_command::kExtended | transmit_command::kEndOfPacket | transmit_command::kVlan,
           kInsertIpChecksum | kInsertTransportChecksum, 77);
  send();
  const Bytes sent = from_wire();
  ASSERT_EQ(sent.size(), frame.size() + 4);
  EXPECT_EQ(net::load32(sent, 12), uint32_t{net::kEtherTypeVlan} << 16 | 77);
  EXPECT_TRUE(net::checksums_right(sent));
}

TEST_F(E1000Test, ReceivesWhatItsFiltersLetThrough) {
  start();
  set(kRal + 8, 0x0054'52u);  // a second address: 52:54:00:00:00:09
  set(kRal + 12, 0x0900u | 1u << 31);
  to_wire(frame_to({0x52, 0x54, 0, 9, 9, 9}, 1));
  to_wire(frame_to({0x52, 0x54, 0, 1, 2, 3}, 2));
  to_wire(frame_to({255, 255, 255, 255, 255, 255}, 3));
  to_wire(frame_to({0x52, 0x54, 0, 0, 0, 9}, 4));
  // 01:00:5e:00:00:fb: with MO 0 the hash is the upper 12 of the last 16 bits.
  to_wire(frame_to({1, 0, 0x5E, 0, 0, 0xFB}, 5));
  for (const unsigned mark : {2u, 3u, 4u}) EXPECT_EQ(next_mark(), mark);
  const unsigned hash = 0xFB00 >> 4;
  set(kMta + (hash >> 5) * 4, 1u << (hash & 31));
  to_wire(frame_to({1, 0, 0x5E, 0, 0, 0xFB}, 6));
  const auto inexact = received();
  EXPECT_NE(inexact.status & receive_status::kInexact, 0);
  EXPECT_EQ(read(inexact.address + 50, 1)[0], std::byte{6});
  set(kRctl, get(kRctl) | rctl::kUnicastAll);
  to_wire(frame_to({0x52, 0x54, 0, 9, 9, 9}, 7));
  EXPECT_EQ(next_mark(), 7u);
}

TEST_F(E1000Test, TakesVlanTagsOutAndFillsShortFramesUp) {
  start();
  set(kCtrl, get(kCtrl) | ctrl::kVlanMode);
  set(kVet, net::kEtherTypeVlan);
  set(kRctl, get(kRctl) | rctl::kVlanFilter);
  Bytes frame = frame_to({0x52, 0x54, 0, 1, 2, 3}, 1, 40);
  net::store32(frame, 12, uint32_t{net::kEtherTypeVlan} << 16 | 33);
  to_wire(frame);  // of a VLAN that is not let through
  set(kVfta + 4, 2);
  network_->run([] {});
  frame[20] = std::byte{9};
  to_wire(frame);
  const auto descriptor = received();
  EXPECT_EQ(descriptor.length, 60);
  EXPECT_EQ(descriptor.special, 33);
  EXPECT_NE(descriptor.status & receive_status::kVlan, 0);
  EXPECT_EQ(read(descriptor.address + 36, 24), Bytes(24));
}

TEST_F(E1000Test, SpreadsALongFrameAndKeepsWhatHasNoRoom) {
  start(rctl::kEnable | rctl::kBroadcast | rctl::kLongPackets);
  set(kRdt, 2);  // two buffers of 2048 bytes
  to_wire(frame_to({0x52, 0x54, 0, 1, 2, 3}, 1, 3000));
  const auto first = received(), second = received();
  EXPECT_EQ(first.length + second.length, 3000 + 4);  // with the checksum of the wire
  EXPECT_EQ(first.status & receive_status::kEndOfPacket, 0);
  EXPECT_NE(second.status & receive_status::kEndOfPacket, 0);
  to_wire(frame_to({0x52, 0x54, 0, 1, 2, 3}, 2));
  to_wire(frame_to({0x52, 0x54, 0, 1, 2, 3}, 3));
  set(kRdt, 8);
  EXPECT_EQ(next_mark(), 2u);
  EXPECT_EQ(next_mark(), 3u);
}

TEST_F(E1000Test, HoldsInterruptsBackForTheTimeThatTheDriverAskedFor) {
  set(kIms, cause::kReceived | cause::kLinkChange);
  set(kItr, 0xFFFF);  // 16.8 ms
  set(kIcs, cause::kReceived);
  EXPECT_TRUE(line_.wait(true));
  EXPECT_NE(get(kIcr), 0u);
  EXPECT_TRUE(line_.wait(false));
  set(kIcs, cause::kReceived);
  EXPECT_FALSE(line_.level);
  EXPECT_TRUE(line_.wait(true));
}

TEST_F(E1000Test, ResetStopsTheRingsAndKeepsTheAddress) {
  start();
  set(kIms, 0xFF);
  set(kIcs, cause::kReceived);
  set(kCtrl, ctrl::kReset);
  EXPECT_EQ(get(kRctl), 0u);
  EXPECT_EQ(get(kIms), 0u);
  EXPECT_TRUE(line_.wait(false));
  EXPECT_EQ(get(kRal), 0x0100'5452u);
  EXPECT_EQ(get(kRal + 4), 0x8000'0302u);
  EXPECT_EQ(get(kCtrl) & ctrl::kReset, 0u);
}

TEST_F(E1000Test, RingsThatAreNotInRamDoNothing) {
  start();
  set(kTdbah, 0xFFFF'FFFF);
  set(kRdbah, 0xFFFF'FFFF);
  set(kTdt, 5);
  to_wire(frame_to({0x52, 0x54, 0, 1, 2, 3}, 1));
  network_->run([] {});
  network_->run([] {});
  EXPECT_EQ(get(kTdh), 5u);
  set(kTdlen, 0);
  set(kTdt, 0xFFFF);
  network_->run([] {});
}

}  // namespace
}  // namespace limen::nic
