#include "virtio/net/net.h"

#include <sys/socket.h>

#include <memory>

#include "base/unique_fd.h"
#include "net/packets.h"
#include "test_driver.h"

namespace limen::virtio {
namespace {

using D = DriverQueue;
using net::Bytes;

constexpr uint64_t kCsum = 1 << 0, kGuestCsum = 1 << 1, kHostTso4 = 1 << 11, kMergeable = 1 << 15,
                   kStatus = 1 << 16, kCtrlVq = 1 << 17, kCtrlRx = 1 << 18, kCtrlVlan = 1 << 19,
                   kCtrlMacAddr = 1 << 23;
constexpr size_t kHeaderBytes = 12;
constexpr uint64_t kData = 0x10'0000, kBuffers = 0x20'0000;
constexpr uint8_t kOk = 0, kError = 1;

struct Header {
  net::OffloadHeader offload;
  uint16_t buffers;
};

/// A card whose cable ends in a socket that the test holds.
class NetTest : public VirtioTest {
 protected:
  void create(NetProperties properties = {}) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    wire_.reset(ends[0]);
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    network_ = *net::Network::create();
    ASSERT_TRUE(network_->add(
        *net::parse_backend({{"type", "socket"}, {"id", "n0"}, {"fd", std::to_string(ends[1])}})));
    properties.netdev = "n0";
    properties.mac = kMac;
    plug(*Net::create(properties, *network_));
    enable_msix();
  }
  void start(uint64_t features) {
    ASSERT_TRUE(negotiate(feature::kVersion1 | features));
    set_common(0x10, 2, 0);
    receive_ = std::make_unique<D>(enable_queue(0, 64));
    transmit_ = std::make_unique<D>(enable_queue(1, 64));
    control_ = std::make_unique<D>(enable_queue(2, 64));
    driver_ok();
  }
  void TearDown() override { function_.reset(); }

  void transmit(const Bytes& frame, const net::OffloadHeader& offload = {}) {
    transmit_->put(kData, Header{offload, 0});
    write(kData + 0x1000, frame);
    const auto half = static_cast<uint32_t>(frame.size() / 2);
    transmit_->write_chain(0,
                           {{kData, kHeaderBytes},
                            {kData + 0x1000, half},
                            {kData + 0x1000 + half, static_cast<uint32_t>(frame.size()) - half}});
    transmit_->offer(0);
    kick(1);
  }
  void write(uint64_t address, const Bytes& bytes) {
    std::ranges::copy(bytes, memory_->span({address}, bytes.size()).begin());
  }
  Bytes read(uint64_t address, size_t count) {
    const auto bytes = memory_->span({address}, count);
    return {bytes.begin(), bytes.end()};
  }
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
  /// Offers `count` receive buffers of `bytes` each.
  void offer_buffers(unsigned count, uint32_t bytes) {
    for (unsigned i = 0; i < count; ++i, ++offered_) {
      receive_->write_descriptor(receive_->base, offered_ % 64,
                                 {kBuffers + 0x1'0000ull * (offered_ % 64), bytes, D::kWrite});
      receive_->offer(static_cast<uint16_t>(offered_ % 64));
    }
    kick(0);
  }
  /// A command's answer.
  uint8_t command(const Bytes& bytes) {
    write(kData, bytes);
    control_->put<uint8_t>(kData + 0x8000, 0xEE);
    control_->write_chain(
        0, {{kData, static_cast<uint32_t>(bytes.size())}, {kData + 0x8000, 1, D::kWrite}});
    control_->offer(0);
    kick(2);
    msi_.wait(3, ++commands_);
    return control_->get<uint8_t>(kData + 0x8000);
  }
  static Bytes bytes(std::initializer_list<unsigned> values) {
    Bytes result;
    for (const unsigned value : values) result.push_back(static_cast<std::byte>(value));
    return result;
  }
  static Bytes frame_to(std::initializer_list<unsigned> target, unsigned mark) {
    Bytes frame(64, static_cast<std::byte>(mark));
    const auto mac = bytes(target);
    std::ranges::copy(mac, frame.begin());
    net::store16(frame, 12, net::kEtherTypeIp4);
    return frame;
  }
  /// The mark of the next frame that the card let through.
  unsigned next_mark() {
    offer_buffers(1, 2048);
    msi_.wait(1, ++marks_);
    const auto used = receive_->used_entry(static_cast<uint16_t>(marks_ - 1));
    return static_cast<unsigned>(read(kBuffers + 0x1'0000ull * used.id + kHeaderBytes + 20, 1)[0]);
  }

  static constexpr MacAddress kMac = {0x52, 0x54, 0, 1, 2, 3};
  UniqueFd wire_;
  std::unique_ptr<net::Network> network_;
  std::unique_ptr<D> receive_, transmit_, control_;
  unsigned offered_ = 0, commands_ = 0, marks_ = 0;
};

TEST_F(NetTest, ShowsItsAddressAndThatTheLinkIsUp) {
  create({.mtu = 9000});
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(device_config(i, 1), kMac[i]);
  EXPECT_EQ(device_config(6, 2), 1u);
  EXPECT_EQ(device_config(10, 2), 9000u);
}

TEST_F(NetTest, SendsFramesFromThePartsInWhichTheyLie) {
  create();
  start(0);
  const Bytes frame = net::counted(1000);
  transmit(frame);
  EXPECT_EQ(from_wire(), frame);
  msi_.wait(2, 1);
}

TEST_F(NetTest, FinishesChecksumsAndSegmentsForAWireThatDoesNot) {
  create();
  start(kCsum | kHostTso4);
  const Bytes frame = net::packet(4, net::kProtocolTcp, net::counted(10'000));
  auto offload = net::checksum_header(frame);
  offload.gso_type = net::kGsoTcp4;
  offload.segment_bytes = 1448;
  transmit(frame, offload);
  Bytes together;
  while (together.size() < 10'000) {
    const Bytes segment = from_wire();
    ASSERT_FALSE(segment.empty());
    ASSERT_LE(segment.size(), 1514u);
    EXPECT_TRUE(net::checksums_right(segment));
    together.insert(together.end(), segment.begin() + 54, segment.end());
  }
  EXPECT_EQ(together, net::counted(10'000));
}

TEST_F(NetTest, SpreadsAFrameOverSeveralBuffersAndSaysHowMany) {
  create();
  start(kMergeable | kGuestCsum);
  const Bytes frame = net::counted(5000);
  offer_buffers(4, 2000);
  to_wire(frame);
  msi_.wait(1, 1);
  ASSERT_EQ(receive_->used_index(), 3);
  EXPECT_EQ(receive_->get<Header>(kBuffers).buffers, 3);
  Bytes together;
  for (uint16_t i = 0; i < 3; ++i) {
    const auto used = receive_->used_entry(i);
    const Bytes part = read(kBuffers + 0x1'0000ull * used.id, used.length);
    together.insert(together.end(), part.begin(), part.end());
  }
  together.erase(together.begin(), together.begin() + kHeaderBytes);
  EXPECT_EQ(together, frame);
}

TEST_F(NetTest, KeepsFramesUntilTheDriverHasRoom) {
  create();
  start(kMergeable);
  for (unsigned i = 0; i < 5; ++i) to_wire(Bytes(100, static_cast<std::byte>(i)));
  offer_buffers(2, 2048);
  msi_.wait(1, 2);
  offer_buffers(3, 2048);
  msi_.wait(1, 5);
  for (unsigned i = 0; i < 5; ++i)
    EXPECT_EQ(read(kBuffers + 0x1'0000ull * i + kHeaderBytes, 100),
              Bytes(100, static_cast<std::byte>(i)));
}

TEST_F(NetTest, OfAMachineThatStandsStillChangesNoMemory) {
  create();
  start(kMergeable);
  offer_buffers(2, 2048);
  to_wire(Bytes(100, std::byte{1}));
  msi_.wait(1, 1);
  network_->set_running(false);
  to_wire(Bytes(100, std::byte{2}));
  transmit(net::counted(100));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // both were looked at
  EXPECT_EQ(receive_->used_index(), 1);
  EXPECT_EQ(transmit_->used_index(), 0);
  network_->set_running(true);
  msi_.wait(1, 2);
  EXPECT_EQ(from_wire(), net::counted(100));
}

TEST_F(NetTest, ReceivesWhatTheFilterLetsThrough) {
  create();
  start(kMergeable | kCtrlVq | kCtrlRx | kCtrlVlan);
  EXPECT_EQ(command(bytes({0, 0, 0})), kOk);  // not promiscuous
  to_wire(frame_to({0x52, 0x54, 0, 9, 9, 9}, 1));
  to_wire(frame_to({0x52, 0x54, 0, 1, 2, 3}, 2));
  EXPECT_EQ(next_mark(), 2u);
  // One more address, and a group's.
  EXPECT_EQ(
      command(bytes({1, 0, 1, 0, 0, 0, 0x52, 0x54, 0, 9, 9, 9, 1, 0, 0, 0, 1, 0, 0x5E, 0, 0, 7})),
      kOk);
  to_wire(frame_to({1, 0, 0x5E, 0, 0, 8}, 3));
  to_wire(frame_to({1, 0, 0x5E, 0, 0, 7}, 4));
  to_wire(frame_to({0x52, 0x54, 0, 9, 9, 9}, 5));
  to_wire(frame_to({255, 255, 255, 255, 255, 255}, 6));
  for (const unsigned mark : {4u, 5u, 6u}) EXPECT_EQ(next_mark(), mark);
  EXPECT_EQ(command(bytes({0, 5, 1})), kError);  // CTRL_RX_EXTRA was not negotiated
  // VLANs: none at first, then one.
  Bytes tagged = frame_to({0x52, 0x54, 0, 1, 2, 3}, 7);
  net::store32(tagged, 12, uint32_t{net::kEtherTypeVlan} << 16 | 5);
  to_wire(tagged);
  to_wire(frame_to({0x52, 0x54, 0, 1, 2, 3}, 8));
  EXPECT_EQ(next_mark(), 8u);
  EXPECT_EQ(command(bytes({2, 0, 5, 0})), kOk);
  to_wire(tagged);
  EXPECT_EQ(next_mark(), 7u);
}

TEST_F(NetTest, RefusesCommandsThatAreNone) {
  create();
  start(kCtrlVq | kCtrlRx | kCtrlMacAddr);
  EXPECT_EQ(command(bytes({9, 9})), kError);
  EXPECT_EQ(command(bytes({0, 0})), kError);                            // no value
  EXPECT_EQ(command(bytes({1, 0, 255, 255, 255, 255, 1, 2})), kError);  // a table that is longer
  EXPECT_EQ(command(bytes({4, 0, 2, 0})), kError);                      // one pair alone
  EXPECT_EQ(command(bytes({1, 1, 2, 0, 0, 0, 0, 1})), kOk);
  EXPECT_EQ(device_config(0, 4), 2u);
}

TEST_F(NetTest, TellsTheDriverWhenTheLinkGoesDown) {
  create();
  start(kStatus);
  ASSERT_TRUE(network_->set_link("n0", false));
  msi_.wait(0, 1);
  EXPECT_EQ(device_config(6, 2), 0u);
  ASSERT_TRUE(network_->set_link("n0", true));
  msi_.wait(0, 2);
  EXPECT_EQ(device_config(6, 2), 1u);
}

TEST_F(NetTest, AFrameWithoutAHeaderStopsTheDevice) {
  create();
  start(0);
  transmit_->write_chain(0, {{kData, 5}});
  transmit_->offer(0);
  kick(1);
  msi_.wait(0, 1);
  EXPECT_NE(status() & status::kNeedsReset, 0);
  start(0);
  transmit(net::counted(100));
  EXPECT_EQ(from_wire(), net::counted(100));
}

TEST_F(NetTest, AResetWhileFramesWaitLeavesNothingBehind) {
  create();
  start(kMergeable);
  for (int i = 0; i < 10; ++i) to_wire(Bytes(100));
  set_status(0);
  start(kMergeable);
  offered_ = 0;
  // What the network's thread held is gone; what the socket holds may come.
  offer_buffers(20, 2048);
  to_wire(Bytes(200, std::byte{7}));
  for (uint16_t i = 0;; ++i) {
    msi_.wait(1, i + 1u);
    if (receive_->used_entry(i).length == 200 + kHeaderBytes) break;
    ASSERT_LT(i, 12);
  }
}

}  // namespace
}  // namespace limen::virtio
