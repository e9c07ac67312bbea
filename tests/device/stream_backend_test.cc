// Back ends whose peer comes and goes, with real sockets and terminals at the other end.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <string>

#include "device/character/pipe_backend.h"
#include "device/character/pty_backend.h"
#include "device/character/ring_backend.h"
#include "device/character/socket_backend.h"
#include "device/character/telnet.h"

namespace limen::device {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::span<const uint8_t> bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string take(int fd) {
  std::string all;
  char buffer[4096];
  pollfd poll{.fd = fd, .events = POLLIN, .revents = 0};
  while (::poll(&poll, 1, 20) == 1 && (poll.revents & POLLIN) != 0) {
    const ssize_t count = ::read(fd, buffer, sizeof buffer);
    if (count <= 0) break;
    all.append(buffer, static_cast<size_t>(count));
  }
  return all;
}

class Streams : public ::testing::Test {
 protected:
  Streams() {
    std::string name = (std::filesystem::temp_directory_path() / "limen-stream-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~Streams() override { std::filesystem::remove_all(folder_); }

  void poll() {
    for (int i = 0; i < 10; ++i) loop_->poll();
  }
  /// A terminal's other side gets bytes a little later.
  void poll_until(const std::function<bool()>& condition) {
    const auto until = Clock::now() + std::chrono::seconds(5);
    while (!condition() && Clock::now() < until) poll();
  }
  void connect(CharacterBackend& backend) {
    backend.set_receiver([this] { return room_; },
                         [this](std::span<const uint8_t> got) {
                           EXPECT_LE(got.size(), room_);
                           received_.append(got.begin(), got.end());
                           room_ -= got.size();
                         });
    backend.set_event_handler([this](CharacterEvent event) { events_.push_back(event); });
    poll();
  }
  std::unique_ptr<SocketBackend> server() {
    auto backend =
        SocketBackend::create(*loop_, {.address = {.path = path()}, .server = true, .wait = false})
            .value();
    connect(*backend);
    return backend;
  }
  [[nodiscard]] std::string path() const { return (folder_ / "socket").string(); }
  UniqueFd client() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path().c_str(), sizeof address.sun_path - 1);
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd.reset();
    poll();
    return fd;
  }
  static void send(const UniqueFd& fd, std::string_view text) {
    ASSERT_EQ(::write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }

  std::filesystem::path folder_;
  std::unique_ptr<EventLoop> loop_ = EventLoop::create().value();
  size_t room_ = 1000;
  std::string received_;
  std::vector<CharacterEvent> events_;
};

TEST_F(Streams, ServerTakesOneClientAfterTheOther) {
  auto backend = server();
  EXPECT_EQ(backend->filename(), "disconnected:unix:" + path() + ",server=on");
  backend->write(bytes("nobody hears this"));
  auto first = client();
  EXPECT_EQ(backend->filename(), "unix:" + path() + ",server=on");
  backend->write(bytes("hello"));
  EXPECT_EQ(take(first.get()), "hello");
  send(first, "from the first ");
  auto second = client();  // waits
  first.reset();
  poll();
  send(second, "from the second");
  poll();
  EXPECT_EQ(received_, "from the first from the second");
  using enum CharacterEvent;
  EXPECT_THAT(events_, ElementsAre(kOpened, kClosed, kOpened));
}

TEST_F(Streams, SocketFileGoesWithTheServer) {
  auto backend = server();
  EXPECT_TRUE(std::filesystem::exists(path()));
  backend.reset();
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(Streams, WhatAClientSentBeforeItWentIsNotLostOnASlowFrontEnd) {
  auto backend = server();
  room_ = 3;
  auto fd = client();
  send(fd, "abcdefgh");
  fd.reset();
  poll();
  EXPECT_EQ(received_, "abc");
  for (int i = 0; i < 3; ++i) {
    room_ = 3;
    backend->accept_input();
    poll();
  }
  EXPECT_EQ(received_, "abcdefgh");
  EXPECT_EQ(events_.back(), CharacterEvent::kClosed);
}

TEST_F(Streams, ClientThatVanishesIsNoticedWithoutRoom) {
  auto backend = server();
  room_ = 0;
  auto fd = client();
  fd.reset();
  poll();
  EXPECT_FALSE(backend->peer_present());
}

TEST_F(Streams, SlowClientGetsEverythingInOrder) {
  auto backend = server();
  auto fd = client();
  std::string sent;
  for (int i = 0; i < 60'000; ++i) {
    const auto line = std::to_string(i) + "\n";
    backend->write(bytes(line));
    sent += line;
  }
  EXPECT_GT(backend->pending_output(), 0u);
  std::string got;
  for (int i = 0; i < 1000 && got.size() < sent.size(); ++i) {
    got += take(fd.get());
    poll();
  }
  EXPECT_TRUE(got == sent);
  EXPECT_EQ(backend->pending_output(), 0u);
}

TEST_F(Streams, OutputBeyondTheLimitIsDropped) {
  auto backend = server();
  backend->set_output_limit(10'000);
  auto fd = client();
  const std::string block(100'000, 'x');
  for (int i = 0; i < 20; ++i) backend->write(bytes(block));
  EXPECT_LE(backend->pending_output(), 10'000u);
}

TEST_F(Streams, DescriptorsComeWithTheBytes) {
  auto backend = server();
  auto fd = client();
  char byte = '!';
  iovec vector{.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  auto* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int passed = ::memfd_create("passed", 0);
  std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
  ASSERT_EQ(::sendmsg(fd.get(), &message, 0), 1);
  poll();
  const auto got = backend->take_descriptors();
  ASSERT_EQ(got.size(), 1u);
  struct stat here {};
  struct stat there {};
  ASSERT_EQ(::fstat(got[0].get(), &here), 0);
  ASSERT_EQ(::fstat(passed, &there), 0);
  EXPECT_EQ(here.st_ino, there.st_ino);
  ::close(passed);
}

TEST_F(Streams, ClientThatMayConnectsAgain) {
  auto listener = listen_on({.path = path()}).value();
  auto backend = SocketBackend::create(*loop_, {.address = {.path = path()},
                                                .reconnect = std::chrono::milliseconds(20)})
                     .value();
  connect(*backend);
  EXPECT_TRUE(backend->peer_present());
  UniqueFd peer(::accept(listener.get(), nullptr, nullptr));
  peer.reset();
  poll();
  EXPECT_FALSE(backend->peer_present());
  const auto until = Clock::now() + std::chrono::seconds(5);
  while (!backend->peer_present() && Clock::now() < until) poll();
  EXPECT_TRUE(backend->peer_present());
}

TEST_F(Streams, ErrorsNameTheAddress) {
  const auto missing = SocketBackend::create(*loop_, {.address = {.path = path()}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message,
            "Failed to connect to '" + path() + "': No such file or directory");
  const auto bad = listen_on({.path = "/nonexistent/socket"});
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().message, HasSubstr("/nonexistent/socket"));
  const auto long_one = listen_on({.path = std::string(200, 'x')});
  ASSERT_FALSE(long_one);
  EXPECT_THAT(long_one.error().message, HasSubstr("too long"));
}

TEST_F(Streams, TcpServerSpeaksTelnet) {
  SocketAddress address{.kind = SocketAddress::Kind::kInet, .host = "127.0.0.1", .port = "0"};
  auto backend = SocketBackend::create(
                     *loop_, {.address = address, .server = true, .wait = false, .telnet = true})
                     .value();
  connect(*backend);
  const auto name = backend->listening_name();
  address.port = name.substr(name.rfind(':') + 1);
  auto fd = connect_to(address).value();
  poll();
  const auto greeting = TelnetFilter::greeting();
  EXPECT_EQ(take(fd.get()), std::string(greeting.begin(), greeting.end()));
  send(fd,
       "a\xff\xfd\x01"
       "b\xff\xff"
       "c\xff\xf3");  // DO ECHO, a doubled FFH, BREAK
  poll();
  EXPECT_EQ(received_,
            "ab\xff"
            "c");
  EXPECT_EQ(events_.back(), CharacterEvent::kBreak);
  backend->write(bytes("x\xff"));
  poll();
  EXPECT_EQ(take(fd.get()), "x\xff\xff");
  const auto taken = listen_on(address);
  ASSERT_FALSE(taken);
  EXPECT_THAT(taken.error().message, HasSubstr("Address already in use"));
}

TEST_F(Streams, PseudoTerminalIsOpenWhileSomeoneHasIt) {
  auto backend = PtyBackend::create(*loop_).value();
  connect(*backend);
  EXPECT_EQ(backend->filename(), "pty:" + backend->path());
  EXPECT_FALSE(backend->peer_present());
  for (int round = 0; round < 2; ++round) {
    UniqueFd other(::open(backend->path().c_str(), O_RDWR | O_NOCTTY));
    ASSERT_TRUE(other.valid());
    const auto until = Clock::now() + std::chrono::seconds(5);
    while (!backend->peer_present() && Clock::now() < until) poll();
    backend->write(bytes("login: "));
    EXPECT_EQ(take(other.get()), "login: ");
    received_.clear();
    send(other, "root\r");
    poll_until([&] { return received_.size() == 5; });
    EXPECT_EQ(received_, "root\r");  // raw: no echo, no line discipline
    other.reset();
    poll_until([&] { return !backend->peer_present(); });
    EXPECT_FALSE(backend->peer_present());
  }
}

TEST_F(Streams, WhatIsWrittenToAPseudoTerminalAndClosedAtOnceArrives) {
  auto backend = PtyBackend::create(*loop_).value();
  connect(*backend);
  {
    UniqueFd other(::open(backend->path().c_str(), O_RDWR | O_NOCTTY));
    send(other, "quick");
  }
  const auto until = Clock::now() + std::chrono::seconds(5);
  while (received_.empty() && Clock::now() < until) poll();
  EXPECT_EQ(received_, "quick");
}

TEST_F(Streams, PipesAreReadAndWritten) {
  const auto name = (folder_ / "pipe").string();
  ASSERT_EQ(::mkfifo((name + ".in").c_str(), 0600), 0);
  ASSERT_EQ(::mkfifo((name + ".out").c_str(), 0600), 0);
  auto backend = PipeBackend::create(*loop_, name).value();
  connect(*backend);
  UniqueFd in(::open((name + ".in").c_str(), O_WRONLY | O_NONBLOCK));
  UniqueFd out(::open((name + ".out").c_str(), O_RDONLY | O_NONBLOCK));
  send(in, "in");
  backend->write(bytes("out"));
  poll();
  EXPECT_EQ(received_, "in");
  EXPECT_EQ(take(out.get()), "out");
  EXPECT_FALSE(PipeBackend::create(*loop_, (folder_ / "none").string()));
}

TEST(RingBackend, KeepsTheLastBytes) {
  RingBackend ring(4);
  ring.write(bytes("abc"));
  ring.write(bytes("def"));
  const auto text = [&](size_t most) {
    const auto got = ring.read(most);
    return std::string(got.begin(), got.end());
  };
  EXPECT_EQ(text(2), "cd");
  EXPECT_EQ(text(10), "ef");
  EXPECT_EQ(text(10), "");
  ring.write(bytes("0123456789"));
  EXPECT_EQ(text(10), "6789");
}

}  // namespace
}  // namespace limen::device
