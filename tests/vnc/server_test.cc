// The server with real sockets, a screen and a keyboard of the test's.
#include "vnc/server.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <thread>

#include "base/unique_fd.h"
#include "vnc/protocol.h"

namespace limen::vnc {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class Picture final : public display::Source {
 public:
  void update(display::Frame& frame, bool all, std::vector<display::Rectangle>& changed) override {
    const std::lock_guard lock(mutex);
    if (frame.width != width || frame.height != height) {
      frame.resize(width, height);
      all = true;
    }
    if (!all && colour == drawn) return;
    std::ranges::fill(frame.pixels, colour);
    drawn = colour;
    changed.push_back({0, 0, width, height});
  }
  void wish_size(unsigned w, unsigned h) override {
    const std::lock_guard lock(mutex);
    width = w;
    height = h;
  }
  void paint(uint32_t c) {
    const std::lock_guard lock(mutex);
    colour = c;
  }
  std::mutex mutex;
  unsigned width = 320, height = 200;
  uint32_t colour = 0x123456, drawn = 0;
};

class Keyboard final : public display::KeySink, public display::PointerSink {
 public:
  void key(display::KeyCode code, bool down) override {
    const std::lock_guard lock(mutex_);
    log_.push_back((down ? "+" : "-") + std::to_string(code));
  }
  [[nodiscard]] bool absolute() const override { return tablet; }
  void move_by(int x, int y) override { note("by", x, y); }
  void move_to(unsigned x, unsigned y) override {
    note("to", static_cast<int>(x), static_cast<int>(y));
  }
  void button(display::Button button, bool down) override {
    note("button", static_cast<int>(button), down ? 1 : 0);
  }
  void wheel(int vertical, int horizontal) override { note("wheel", vertical, horizontal); }
  /// What came, once there are so many.
  std::vector<std::string> wait(size_t count) {
    for (int i = 0; i < 500; ++i) {
      {
        const std::lock_guard lock(mutex_);
        if (log_.size() >= count) break;
      }
      std::this_thread::sleep_for(10ms);
    }
    const std::lock_guard lock(mutex_);
    return std::exchange(log_, {});
  }
  std::atomic<bool> tablet = false;

 private:
  void note(const char* what, int a, int b) {
    const std::lock_guard lock(mutex_);
    log_.push_back(std::string(what) + " " + std::to_string(a) + " " + std::to_string(b));
  }
  std::mutex mutex_;
  std::vector<std::string> log_;
};

/// A client as RFC 6143 describes it.
class Viewer {
 public:
  explicit Viewer(const std::string& path) {
    device::SocketAddress address{.path = path};
    auto fd = device::connect_to(address);
    EXPECT_TRUE(fd);
    fd_ = std::move(*fd);
  }
  void send(const Bytes& bytes) {
    EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), std::ssize(bytes));
  }
  /// Fewer: the server has closed, or says nothing for a while.
  Bytes receive(size_t count, int patience = 10'000) {
    Bytes bytes(count);
    size_t got = 0;
    while (got < count) {
      pollfd poll{.fd = fd_.get(), .events = POLLIN, .revents = 0};
      if (::poll(&poll, 1, patience) <= 0) break;
      const auto part = ::recv(fd_.get(), bytes.data() + got, count - got, 0);
      if (part <= 0) break;
      got += static_cast<size_t>(part);
    }
    bytes.resize(got);
    return bytes;
  }
  bool closed() {
    pollfd poll{.fd = fd_.get(), .events = POLLIN, .revents = 0};
    Bytes rest(65536);
    for (int i = 0; i < 100; ++i) {
      if (::poll(&poll, 1, 10'000) <= 0) return false;
      if (::recv(fd_.get(), rest.data(), rest.size(), 0) <= 0) return true;
    }
    return false;
  }
  void greet() {
    EXPECT_EQ(receive(12).size(), 12u);
    send({'R', 'F', 'B', ' ', '0', '0', '3', '.', '0', '0', '8', '\n'});
  }
  /// Through the greeting; the size of the picture.
  std::pair<unsigned, unsigned> join(bool shared = true) {
    greet();
    EXPECT_THAT(receive(2), ElementsAre(1, 1));
    send({1});
    EXPECT_THAT(receive(4), ElementsAre(0, 0, 0, 0));
    return initialize(shared);
  }
  std::pair<unsigned, unsigned> initialize(bool shared = true) {
    send({static_cast<uint8_t>(shared ? 1 : 0)});
    const auto start = receive(24);
    if (start.size() != 24) return {0, 0};
    receive(get32(start, 20));
    width = get16(start, 0);
    height = get16(start, 2);
    return {width, height};
  }
  void request(bool incremental) {
    Bytes message = {3, static_cast<uint8_t>(incremental ? 1 : 0), 0, 0, 0, 0};
    put16(message, width);
    put16(message, height);
    send(message);
  }
  void encodings(const std::vector<int32_t>& list) {
    Bytes message = {2, 0};
    put16(message, static_cast<unsigned>(list.size()));
    for (const auto each : list) put32(message, static_cast<uint32_t>(each));
    send(message);
  }
  struct Rectangle {
    unsigned x = 0, y = 0, width = 0, height = 0;
    int32_t encoding = 0;
    Bytes data = {};
  };
  /// The rectangles of one update, raw ones with their pixels.
  std::vector<Rectangle> update() {
    const auto head = receive(4);
    std::vector<Rectangle> all;
    if (head.size() < 4 || head[0] != 0) return all;
    for (unsigned i = 0; i < get16(head, 2); ++i) {
      const auto bytes = receive(12);
      if (bytes.size() < 12) break;
      Rectangle each{get16(bytes, 0), get16(bytes, 2), get16(bytes, 4), get16(bytes, 6),
                     static_cast<int32_t>(get32(bytes, 8))};
      if (each.encoding == encoding::kRaw)
        each.data = receive(size_t{each.width} * each.height * 4);
      else if (each.encoding == encoding::kExtendedDesktopSize)
        each.data = receive(4 + 16);
      else if (each.encoding == encoding::kLedState)
        each.data = receive(1);
      all.push_back(std::move(each));
    }
    return all;
  }
  /// The first pixel of an update that covers everything.
  uint32_t pixel(bool incremental = false) {
    request(incremental);
    const auto rectangles = update();
    for (const auto& each : rectangles)
      if (each.data.size() >= 4)
        return uint32_t{each.data[2]} << 16 | uint32_t{each.data[1]} << 8 | each.data[0];
    return UINT32_MAX;
  }
  void key(uint32_t symbol, bool down) {
    Bytes message = {4, static_cast<uint8_t>(down ? 1 : 0), 0, 0};
    put32(message, symbol);
    send(message);
  }
  void pointer(unsigned buttons, unsigned x, unsigned y) {
    Bytes message = {5, static_cast<uint8_t>(buttons)};
    put16(message, x);
    put16(message, y);
    send(message);
  }
  unsigned width = 0, height = 0;

 private:
  UniqueFd fd_;
};

class VncServer : public testing::Test {
 protected:
  VncServer() {
    screen_.connect(picture_);
    input_.add(static_cast<display::KeySink&>(keyboard_));
    input_.add(static_cast<display::PointerSink&>(keyboard_));
    options_.address.path = path_;
  }
  ~VncServer() override { server_.reset(); }
  void start(std::optional<std::string> password = {}) {
    auto created = Server::create(options_, {.screen = screen_,
                                             .input = input_,
                                             .machine_name = "test",
                                             .password = std::move(password),
                                             .tell = [this](const ServerEvent& event) {
                                               const std::lock_guard lock(mutex_);
                                               events_.push_back(event.kind);
                                             }});
    ASSERT_TRUE(created) << created.error().message;
    server_ = std::move(*created);
  }
  size_t clients() { return server_->information().clients.size(); }
  bool drops_to(size_t count) {
    for (int i = 0; i < 3000 && clients() != count; ++i) std::this_thread::sleep_for(10ms);
    return clients() == count;
  }

  const std::string path_ = "/tmp/limen-vnc-test-" + std::to_string(::getpid());
  Picture picture_;
  Keyboard keyboard_;
  display::Screen screen_;
  display::Input input_;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  std::mutex mutex_;
  std::vector<ServerEvent::Kind> events_;
};

TEST_F(VncServer, ShowsThePictureAndItsChanges) {
  start();
  Viewer viewer(path_);
  EXPECT_EQ(viewer.join(), std::pair(320u, 200u));
  EXPECT_EQ(viewer.pixel(), 0x123456u);
  picture_.paint(0xABCDEF);
  EXPECT_EQ(viewer.pixel(true), 0xABCDEFu);
  EXPECT_EQ(clients(), 1u);
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_THAT(events_, ElementsAre(ServerEvent::Kind::kConnected, ServerEvent::Kind::kInitialized));
}

TEST_F(VncServer, ShowsPicturesToWhoMovesThePointerWithoutPause) {
  start();
  Viewer viewer(path_);
  viewer.join();
  EXPECT_EQ(viewer.pixel(), 0x123456u);
  std::jthread mover([&](const std::stop_token& stop) {
    for (unsigned x = 0; !stop.stop_requested(); x = (x + 1) % 320) {
      viewer.pointer(0, x, 5);
      std::this_thread::sleep_for(2ms);
    }
  });
  std::this_thread::sleep_for(100ms);
  picture_.paint(0xABCDEF);
  EXPECT_EQ(viewer.pixel(true), 0xABCDEFu);
}

TEST_F(VncServer, LooksOnlyWhileSomebodyIsThere) {
  start();
  EXPECT_FALSE(screen_.has_viewers());
  {
    Viewer viewer(path_);
    viewer.join();
    EXPECT_TRUE(screen_.has_viewers());
  }
  EXPECT_TRUE(drops_to(0));
  for (int i = 0; i < 100 && screen_.has_viewers(); ++i) std::this_thread::sleep_for(10ms);
  EXPECT_FALSE(screen_.has_viewers());
  EXPECT_EQ(events_.back(), ServerEvent::Kind::kDisconnected);
}

TEST_F(VncServer, SeveralClientsSeeTheSame) {
  start();
  Viewer first(path_), second(path_);
  first.join();
  second.join();
  EXPECT_EQ(first.pixel(), 0x123456u);
  EXPECT_EQ(second.pixel(), 0x123456u);
  picture_.paint(0x00FF00);
  EXPECT_EQ(second.pixel(true), 0x00FF00u);
  EXPECT_EQ(first.pixel(true), 0x00FF00u);
}

TEST_F(VncServer, ClientThatWantsToBeAloneIsObeyedByPolicy) {
  start();
  Viewer first(path_);
  first.join();
  Viewer second(path_);
  second.join(false);
  EXPECT_TRUE(first.closed());
  EXPECT_EQ(second.pixel(), 0x123456u);
  server_.reset();

  options_.share = SharePolicy::kForceShared;
  start();
  Viewer third(path_), fourth(path_);
  third.join();
  EXPECT_EQ(fourth.join(false), std::pair(0u, 0u));
  EXPECT_EQ(third.pixel(), 0x123456u);
  server_.reset();

  options_.share = SharePolicy::kIgnore;
  start();
  Viewer fifth(path_), sixth(path_);
  fifth.join();
  sixth.join(false);
  EXPECT_EQ(fifth.pixel(), 0x123456u);
}

TEST_F(VncServer, TypesSymbolsAsAnAmericanKeyboardNeedsThem) {
  start();
  Viewer viewer(path_);
  viewer.join();
  viewer.key('a', true);
  viewer.key('a', false);
  EXPECT_THAT(keyboard_.wait(2), ElementsAre("+30", "-30"));
  viewer.key('A', true);  // without Shift, as simple programs type
  viewer.key('A', false);
  EXPECT_THAT(keyboard_.wait(4), ElementsAre("+42", "+30", "-42", "-30"));
  viewer.key(0xFFE1, true);
  viewer.key('A', true);
  viewer.key('A', false);
  viewer.key('/', true);  // Shift+7 on a German keyboard
  viewer.key('/', false);
  viewer.key(0xFFE1, false);
  EXPECT_THAT(keyboard_.wait(8),
              ElementsAre("+42", "+30", "-30", "-42", "+53", "+42", "-53", "-42"));
}

TEST_F(VncServer, TakesScanCodesAndLetsGoWhenTheClientGoes) {
  start();
  {
    Viewer viewer(path_);
    viewer.join();
    viewer.encodings({encoding::kRaw, encoding::kExtendedKey});
    const auto answer = viewer.update();
    ASSERT_EQ(answer.size(), 1u);
    EXPECT_EQ(answer[0].encoding, encoding::kExtendedKey);
    Bytes message = {255, 0, 0, 1};
    put32(message, 0xFF52);
    put32(message, 0xC8);
    viewer.send(message);
    EXPECT_THAT(keyboard_.wait(1), ElementsAre("+200"));
  }
  EXPECT_THAT(keyboard_.wait(1), ElementsAre("-200"));
}

TEST_F(VncServer, PointerIsRelativeUntilThereIsATablet) {
  start();
  Viewer viewer(path_);
  viewer.join();
  viewer.encodings({encoding::kRaw, encoding::kPointerMotionChange});
  auto told = viewer.update();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].x, 0u);
  viewer.pointer(1, 0x7FFF + 5, 0x7FFF - 3);
  EXPECT_THAT(keyboard_.wait(2), ElementsAre("by 5 -3", "button 0 1"));
  viewer.pointer(8, 0x7FFF, 0x7FFF);
  EXPECT_THAT(keyboard_.wait(3), ElementsAre("by 0 0", "button 0 0", "wheel 1 0"));
  keyboard_.tablet = true;
  told = viewer.update();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].x, 1u);
  viewer.pointer(0, 319, 0);
  EXPECT_THAT(keyboard_.wait(1), ElementsAre("to 32767 0"));
}

TEST_F(VncServer, FollowsTheGuestsSizeAndPassesOnWishes) {
  start();
  Viewer viewer(path_);
  viewer.join();
  viewer.encodings({encoding::kRaw, encoding::kDesktopSize, encoding::kExtendedDesktopSize});
  Bytes wish = {251, 0, 2, 128, 1, 224, 1, 0};
  wish.resize(8 + 16);
  viewer.send(wish);
  bool passed_on = false, resized = false;
  viewer.request(false);
  for (int i = 0; i < 20 && !(passed_on && resized); ++i) {
    for (const auto& each : viewer.update()) {
      if (each.encoding != encoding::kExtendedDesktopSize) continue;
      if (each.x == 1 && each.y == 4) passed_on = true;
      if (each.width == 640 && each.height == 480) resized = true;
    }
    viewer.request(true);
  }
  EXPECT_TRUE(passed_on);
  EXPECT_TRUE(resized);
}

TEST_F(VncServer, WantsThePasswordThatIsSet) {
  options_.password = true;
  start("secret");
  const auto try_password = [&](const char* password) {
    Viewer viewer(path_);
    viewer.greet();
    EXPECT_THAT(viewer.receive(2), ElementsAre(1, 2));
    viewer.send({2});
    auto challenge = viewer.receive(16);
    std::array<char, 9> key{};
    std::strncpy(key.data(), password, 8);
    rfbEncryptBytes(challenge.data(), key.data());
    viewer.send(challenge);
    const auto answer = viewer.receive(4);
    return answer.size() == 4 && get32(answer, 0) == 0;
  };
  EXPECT_TRUE(try_password("secret"));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_FALSE(try_password("Secret"));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 900ms);
  ASSERT_TRUE(server_->set_password("changed"));
  EXPECT_FALSE(try_password("secret"));
  EXPECT_TRUE(try_password("changed"));
  server_->expire_password(std::chrono::system_clock::now());
  EXPECT_FALSE(try_password("changed"));
  server_->expire_password({});
  EXPECT_TRUE(try_password("changed"));
}

TEST_F(VncServer, NobodyGetsInWhileNoPasswordIsSet) {
  options_.password = true;
  start();
  Viewer viewer(path_);
  viewer.greet();
  viewer.receive(2);
  viewer.send({2});
  auto challenge = viewer.receive(16);
  std::array<char, 9> none{};
  rfbEncryptBytes(challenge.data(), none.data());
  viewer.send(challenge);
  const auto answer = viewer.receive(4);
  ASSERT_EQ(answer.size(), 4u);
  EXPECT_EQ(get32(answer, 0), 1u);
}

TEST_F(VncServer, DropsClientsThatSendGarbage) {
  start();
  Viewer good(path_), browser(path_), wild(path_);
  good.join();
  browser.send({'G', 'E', 'T', ' ', '/'});
  EXPECT_TRUE(browser.closed());
  wild.join();
  wild.send(Bytes(1000, 0xEE));
  EXPECT_TRUE(wild.closed());
  EXPECT_EQ(good.pixel(), 0x123456u);
  EXPECT_TRUE(drops_to(1));
}

TEST_F(VncServer, ClientThatStopsReadingHoldsUpNobody) {
  picture_.width = 1600;
  picture_.height = 1200;
  start();
  Viewer stuck(path_), good(path_);
  stuck.join();
  good.join();
  stuck.request(false);  // 7.7 MB that it does not read
  stuck.request(false);
  EXPECT_EQ(good.pixel(), 0x123456u);
  const auto begin = std::chrono::steady_clock::now();
  for (uint32_t colour = 1; colour < 5; ++colour) {
    picture_.paint(colour);
    EXPECT_EQ(good.pixel(true), colour);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  EXPECT_TRUE(drops_to(1));
}

}  // namespace
}  // namespace limen::vnc
