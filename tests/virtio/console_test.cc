#include "virtio/console/console.h"

#include "test_driver.h"

namespace limen::virtio {
namespace {

using D = DriverQueue;
constexpr uint64_t kMultiport = 1 << 1;

class Recorder final : public device::CharacterBackend {
 public:
  void write(std::span<const uint8_t> bytes) override { output.append(bytes.begin(), bytes.end()); }
  void accept_input() override { ++accepts; }
  [[nodiscard]] bool peer_present() const override { return present; }
  [[nodiscard]] size_t pending_output() const override { return pending; }
  [[nodiscard]] bool tells_of_room() const override { return true; }
  void move_peer(bool here) {
    present = here;
    tell(here ? device::CharacterEvent::kOpened : device::CharacterEvent::kClosed);
  }
  size_t room() { return can_receive_(); }
  /// Gives `text` to the guest as a back end does, no more at a time than there is room.
  size_t type(std::string_view text) {
    size_t done = 0;
    while (done < text.size()) {
      const size_t count = std::min(can_receive_(), text.size() - done);
      if (count == 0) break;
      receive_({reinterpret_cast<const uint8_t*>(text.data()) + done, count});
      done += count;
    }
    return done;
  }
  std::string output;
  unsigned accepts = 0;
  bool present = true;
  size_t pending = 0;
};

struct Control {
  uint32_t port;
  uint16_t event, value;
  std::string text;
  bool operator==(const Control&) const = default;
};
void PrintTo(const Control& c, std::ostream* out) {
  *out << "port " << c.port << " event " << c.event << " value " << c.value << " " << c.text;
}

class ConsoleTest : public VirtioTest {
 protected:
  void create() {
    auto console = *Console::create({.max_ports = 4});
    ASSERT_TRUE(console->add_port({.backend = &console_backend_}));
    ASSERT_TRUE(
        console->add_port({.console = false,
                           .name = "org.example.0",
                           .backend = &port_backend_,
                           .guest_changed = [this](bool open) { opened_.push_back(open); }}));
    plug(std::move(console));
    enable_msix();
  }
  void start(uint64_t features) {
    ASSERT_TRUE(negotiate(feature::kVersion1 | features));
    for (uint16_t i = 0; i < 6; ++i) queues_.push_back(enable_queue(i, 16));
    driver_ok();
  }
  void send(unsigned index, std::string_view bytes) {
    D& queue = queues_[index];
    std::memcpy(memory_->span({0x8000}, bytes.size()).data(), bytes.data(), bytes.size());
    queue.write_chain(0, {{0x8000, static_cast<uint32_t>(bytes.size())}});
    queue.offer(0);
    kick(index);
  }
  void control(uint32_t port, uint16_t event, uint16_t value) {
    const struct {
      uint32_t port;
      uint16_t event, value;
    } message{port, event, value};
    send(3, {reinterpret_cast<const char*>(&message), sizeof message});
  }
  void give_buffers(unsigned index, unsigned count, uint32_t size) {
    D& queue = queues_[index];
    for (unsigned i = 0; i < count; ++i) {
      queue.write_chain(i, {{buffer(index, i), size, D::kWrite}});
      queue.offer(static_cast<uint16_t>(i));
    }
    kick(index);
  }
  static uint64_t buffer(unsigned index, unsigned i) {
    return 0x20'0000 + 0x1'0000ull * index + 0x100ull * i;
  }
  /// What came on a receive queue since the last call.
  std::vector<std::string> received(unsigned index) {
    std::vector<std::string> all;
    D& queue = queues_[index];
    for (; seen_[index] != queue.used_index(); ++seen_[index]) {
      const auto used = queue.used_entry(seen_[index]);
      const auto bytes = memory_->span({buffer(index, used.id)}, used.length);
      all.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return all;
  }
  std::vector<Control> controls() {
    std::vector<Control> all;
    for (const std::string& bytes : received(2)) {
      Control message{};
      std::memcpy(&message.port, bytes.data(), 4);
      std::memcpy(&message.event, bytes.data() + 4, 2);
      std::memcpy(&message.value, bytes.data() + 6, 2);
      message.text = bytes.substr(8);
      all.push_back(message);
    }
    return all;
  }
  void TearDown() override { function_.reset(); }

  Recorder console_backend_, port_backend_;
  std::vector<bool> opened_;
  std::vector<D> queues_;
  uint16_t seen_[6] = {};
};

TEST_F(ConsoleTest, HasTwoQueuesAPortAndTwoForControl) {
  create();
  EXPECT_EQ(common(0x12, 2), 10u);
  EXPECT_EQ(device_config(4, 4), 4u);
}

TEST_F(ConsoleTest, WithoutMultiportQueuesZeroAndOneAreTheConsole) {
  create();
  start(0);
  send(1, "hello\n");
  EXPECT_EQ(console_backend_.output, "hello\n");
  EXPECT_EQ(console_backend_.room(), 0u);
  give_buffers(0, 2, 4);
  EXPECT_GE(console_backend_.accepts, 1u);
  EXPECT_EQ(console_backend_.type("abcdef"), 6u);
  EXPECT_THAT(received(0), testing::ElementsAre("abcd", "ef"));
  EXPECT_EQ(console_backend_.type("x"), 0u) << "no buffers left";
}

TEST_F(ConsoleTest, AnnouncesItsPorts) {
  create();
  start(kMultiport);
  give_buffers(2, 16, 64);
  control(~0u, 0, 1);  // DEVICE_READY
  EXPECT_THAT(controls(), testing::ElementsAre(Control{0, 1, 1, ""}, Control{1, 1, 1, ""}));
  control(0, 3, 1);  // PORT_READY
  EXPECT_THAT(controls(), testing::ElementsAre(Control{0, 4, 1, ""}, Control{0, 6, 1, ""}));
  control(1, 3, 1);
  EXPECT_THAT(controls(),
              testing::ElementsAre(Control{1, 7, 1, "org.example.0"}, Control{1, 6, 1, ""}));
}

TEST_F(ConsoleTest, ControlMessagesWaitForBuffers) {
  create();
  start(kMultiport);
  control(~0u, 0, 1);
  EXPECT_TRUE(controls().empty());
  give_buffers(2, 16, 64);
  EXPECT_EQ(controls().size(), 2u);
}

TEST_F(ConsoleTest, PortTakesInputOnlyWhileTheGuestHasItOpen) {
  create();
  start(kMultiport);
  give_buffers(4, 2, 64);
  EXPECT_EQ(port_backend_.type("early"), 0u);
  control(1, 6, 1);  // PORT_OPEN
  EXPECT_EQ(port_backend_.type("now"), 3u);
  EXPECT_THAT(received(4), testing::ElementsAre("now"));
  control(1, 6, 0);
  EXPECT_EQ(port_backend_.type("late"), 0u);
}

TEST_F(ConsoleTest, PortsHaveStreamsOfTheirOwn) {
  create();
  start(kMultiport);
  send(5, "to the port");
  send(1, "to the console");
  EXPECT_EQ(port_backend_.output, "to the port");
  EXPECT_EQ(console_backend_.output, "to the console");
}

TEST_F(ConsoleTest, GuestHearsWhoIsAtTheOtherEndOfAPort) {
  port_backend_.present = false;
  create();
  start(kMultiport);
  give_buffers(2, 16, 64);
  port_backend_.move_peer(true);
  EXPECT_TRUE(controls().empty()) << "the driver does not know the port yet";
  port_backend_.move_peer(false);
  control(1, 3, 1);  // PORT_READY
  EXPECT_THAT(controls(), testing::ElementsAre(Control{1, 7, 1, "org.example.0"}));
  port_backend_.move_peer(true);
  port_backend_.move_peer(false);
  EXPECT_THAT(controls(), testing::ElementsAre(Control{1, 6, 1, ""}, Control{1, 6, 0, ""}));
}

TEST_F(ConsoleTest, HostHearsWhetherTheGuestHasAPortOpen) {
  create();
  start(kMultiport);
  control(1, 6, 1);
  control(1, 6, 1);
  EXPECT_THAT(opened_, testing::ElementsAre(true));
  set_status(0);
  EXPECT_THAT(opened_, testing::ElementsAre(true, false)) << "a reset closes it";
}

TEST_F(ConsoleTest, GuestWaitsForAPeerThatReadsSlowly) {
  create();
  start(kMultiport);
  port_backend_.pending = size_t{1} << 16;
  send(5, "later");
  EXPECT_EQ(port_backend_.output, "");
  EXPECT_EQ(queues_[5].used_index(), 0) << "the guest keeps its buffer";
  port_backend_.pending = 0;
  static_cast<void>(port_backend_.room());
  EXPECT_EQ(port_backend_.output, "later");
  EXPECT_EQ(queues_[5].used_index(), 1);
}

TEST_F(ConsoleTest, WhatWaitsForAPeerThatGoesIsLostAndHoldsNobody) {
  create();
  start(kMultiport);
  port_backend_.pending = size_t{1} << 16;
  send(5, "lost");
  port_backend_.pending = 0;
  port_backend_.move_peer(false);
  EXPECT_EQ(queues_[5].used_index(), 1);
}

TEST_F(ConsoleTest, MessagesForPortsThatDoNotExistAreIgnored) {
  create();
  start(kMultiport);
  give_buffers(2, 16, 64);
  for (const uint32_t port : {2u, 4u, 1000u, ~0u})
    for (uint16_t event = 0; event < 10; ++event) control(port, event, 7);
  send(3, "short");
  EXPECT_TRUE(controls().empty());
  EXPECT_EQ(status() & status::kNeedsReset, 0);
}

TEST_F(ConsoleTest, AFloodOfRequestsWithoutBuffersIsBounded) {
  create();
  start(kMultiport);
  for (int i = 0; i < 2000; ++i) control(~0u, 0, 1);
  unsigned total = 0;
  for (int i = 0; i < 40; ++i) {
    give_buffers(2, 16, 64);
    total += static_cast<unsigned>(controls().size());
  }
  EXPECT_LE(total, 256u);
}

TEST_F(ConsoleTest, ResetDropsABufferThatWaitedForInput) {
  create();
  start(0);
  give_buffers(0, 1, 64);
  EXPECT_EQ(console_backend_.room(), 64u);
  set_status(0);
  EXPECT_EQ(console_backend_.type("x"), 0u);
  EXPECT_EQ(queues_[0].used_index(), 0);
}

TEST_F(ConsoleTest, InputBufferThatCannotBeWrittenStopsTheDevice) {
  create();
  start(0);
  queues_[0].write_chain(0, {{0x8000, 16}});
  queues_[0].offer(0);
  EXPECT_EQ(console_backend_.room(), 0u);
  EXPECT_NE(status() & status::kNeedsReset, 0);
}

TEST_F(ConsoleTest, EmergencyWriteNeedsNoDriver) {
  create();
  for (const char c : {'o', 'h', '!'})
    mmio_.write(kRegisters + 0x2008, 4, static_cast<uint64_t>(c));
  EXPECT_EQ(console_backend_.output, "oh!");
}

TEST(ConsolePorts, NumbersAreChecked) {
  EXPECT_FALSE(Console::create({.max_ports = 0}));
  EXPECT_FALSE(Console::create({.max_ports = 32}));
  auto console = *Console::create({.max_ports = 2});
  EXPECT_FALSE(console->add_port({.number = 2}));
  EXPECT_FALSE(console->add_port({.console = false, .number = 0}));
  EXPECT_TRUE(console->add_port({.console = false}));
  EXPECT_FALSE(console->add_port({.number = 1}));
  EXPECT_TRUE(console->add_port({}));
  EXPECT_THAT(console->add_port({}).error().message, testing::HasSubstr("all 2 are taken"));
}

}  // namespace
}  // namespace limen::virtio
