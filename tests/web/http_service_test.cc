// HTTP and WebSockets through real sockets, byte by byte as a peer sees them.
#if LIMEN_WEB
#include "web/http_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <deque>
#include <mutex>

namespace limen::web {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// Sends back what it gets, and drops who says "error".
class Echo final : public Channel {
 public:
  Echo(Socket& socket, std::atomic<int>& open) : socket_(socket), open_(open) { ++open_; }
  ~Echo() override { --open_; }
  Echo(const Echo&) = delete;
  Echo& operator=(const Echo&) = delete;

  Result<> received(std::span<const uint8_t> piece, bool last) override {
    EXPECT_LE(piece.size(), HttpService::kLargestPiece);
    message_.insert(message_.end(), piece.begin(), piece.end());
    if (!last) return {};
    if (std::string(message_.begin(), message_.end()) == "error") return fail("as it wished");
    messages_.push_back(std::move(message_));
    message_.clear();
    socket_.want_write();
    return {};
  }
  std::optional<Message> next() override {
    if (messages_.empty()) return {};
    Message message{.bytes = std::move(messages_.front())};
    messages_.pop_front();
    return message;
  }

 private:
  Socket& socket_;
  std::atomic<int>& open_;
  std::vector<uint8_t> message_;
  std::deque<std::vector<uint8_t>> messages_;
};

class HttpServiceTest : public testing::Test, public Handler {
 protected:
  void SetUp() override {
    auto created = HttpService::create(*this, UniqueFd());
    ASSERT_TRUE(created) << created.error().message;
    service_ = std::move(*created);
  }

  Response answer(const Request& request) override {
    const std::lock_guard lock(mutex_);
    asked_ = request;
    if (request.path == "/large") return {.content = large_};
    if (request.path == "/") return {.text = "hello", .cookie = "a=b"};
    return {.status = 404};
  }
  std::expected<std::unique_ptr<Channel>, unsigned> open(const Request& request,
                                                         Socket& socket) override {
    if (request.path != "/echo") return std::unexpected(401u);
    return std::make_unique<Echo>(socket, open_);
  }

  UniqueFd connect() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    UniqueFd own(ends[0]);
    service_->run_there([&] { service_->adopt(UniqueFd(ends[1])); });
    return own;
  }
  static void say(const UniqueFd& fd, std::string_view text) {
    EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  /// What comes until `size` bytes are there, or the end, or nothing for two seconds.
  static std::string hear(const UniqueFd& fd, size_t size = SIZE_MAX) {
    std::string text;
    pollfd ready{.fd = fd.get(), .events = POLLIN, .revents = 0};
    while (text.size() < size && ::poll(&ready, 1, 2000) == 1) {
      std::array<char, 4096> bytes{};
      const auto count =
          ::recv(fd.get(), bytes.data(), std::min(bytes.size(), size - text.size()), 0);
      if (count <= 0) return text + "|END";
      text.append(bytes.data(), static_cast<size_t>(count));
    }
    return text;
  }
  std::string ask(std::string_view request) {
    const auto fd = connect();
    say(fd, request);
    return hear(fd);
  }
  static std::string handshake(std::string_view path) {
    return "GET " + std::string(path) +
           " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
  }
  static std::string frame(std::string_view text, char opcode = '\x82') {
    std::string bytes = {opcode, static_cast<char>(0x80 | text.size()), 0, 0, 0, 0};
    return bytes + std::string(text);
  }
  UniqueFd open_echo() {
    auto fd = connect();
    say(fd, handshake("/echo"));
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const auto more = hear(fd, 1);
      if (more.size() != 1) break;
      head += more;
    }
    EXPECT_THAT(head, StartsWith("HTTP/1.1 101 "));
    // RFC 6455 §1.3 has this pair.
    EXPECT_THAT(head, HasSubstr("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    return fd;
  }

  const std::vector<uint8_t> large_ = std::vector<uint8_t>(300000, 'x');
  std::mutex mutex_;
  Request asked_;
  std::atomic<int> open_ = 0;
  std::unique_ptr<HttpService> service_;
};

TEST_F(HttpServiceTest, AnswersWithHeadersThatKeepThePageToItself) {
  const auto answer =
      ask("GET /?token=s%65cret HTTP/1.1\r\nHost: here:1\r\nCookie: a=b\r\nOrigin: http://o\r\n"
          "Connection: close\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer, HasSubstr("\r\n\r\nhello"));
  EXPECT_THAT(answer, HasSubstr("content-length: 5\r\n"));
  EXPECT_THAT(answer, HasSubstr("set-cookie: a=b\r\n"));
  EXPECT_THAT(answer, HasSubstr("script-src 'self';"));
  EXPECT_THAT(answer, HasSubstr("frame-ancestors 'none'"));
  EXPECT_THAT(answer, HasSubstr("x-content-type-options: nosniff\r\n"));
  EXPECT_THAT(answer, HasSubstr("referrer-policy: no-referrer\r\n"));
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(asked_.path, "/");
  EXPECT_EQ(asked_.token, "secret");
  EXPECT_EQ(asked_.host, "here:1");
  EXPECT_EQ(asked_.cookie, "a=b");
  EXPECT_EQ(asked_.origin, "http://o");
}

TEST_F(HttpServiceTest, AConnectionIsUsedAgain) {
  const auto fd = connect();
  for (int i = 0; i < 3; ++i) {
    say(fd, "GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
    std::string head;
    while (!head.ends_with("\r\n\r\n")) head += hear(fd, 1);
    EXPECT_EQ(hear(fd, large_.size()), std::string(large_.begin(), large_.end()));
  }
}

TEST_F(HttpServiceTest, WhatIsNotThereIsSaid) {
  EXPECT_THAT(ask("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(ask("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
              StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(ask(handshake("/elsewhere")), HasSubstr(" 401 Unauthorized\r\n"));
}

TEST_F(HttpServiceTest, GarbageEndsItsConnectionAlone) {
  const auto other = open_echo();
  for (const std::string& garbage :
       {std::string("\0\1\2\3\r\n\r\n", 8), std::string(100000, 'A'),
        std::string("GET / HTTP/1.1\r\n") + std::string(70000, 'h') + ": x\r\n\r\n",
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
                    "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n")}) {
    const auto fd = connect();
    ::send(fd.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL);
    ::shutdown(fd.get(), SHUT_WR);
    EXPECT_EQ(hear(fd).find("hello"), std::string::npos);
  }
  say(other, frame("still here"));
  EXPECT_EQ(hear(other, 12), std::string("\x82\x0a") + "still here");
}

TEST_F(HttpServiceTest, WebSocketsCarryMessages) {
  const auto fd = open_echo();
  say(fd, frame("abc") + frame("d"));
  EXPECT_EQ(hear(fd, 8), std::string("\x82\x03") + "abc" + "\x82\x01" + "d");
  // In fragments, with a ping in between.
  say(fd, frame("ab", '\x02') + frame("!", '\x89') + frame("cd", '\x80'));
  const auto answer = hear(fd, 9);
  EXPECT_THAT(answer, HasSubstr(std::string("\x8a\x01") + "!"));
  EXPECT_THAT(answer, HasSubstr(std::string("\x82\x04") + "abcd"));
  EXPECT_EQ(open_, 1);
}

TEST_F(HttpServiceTest, AnErrorOfTheChannelsEndsTheWebSocket) {
  const auto fd = open_echo();
  say(fd, frame("error"));
  EXPECT_THAT(hear(fd), testing::EndsWith("|END"));
  for (int i = 0; i < 200 && open_ != 0; ++i) service_->run_there([] {});
  EXPECT_EQ(open_, 0);
}

TEST_F(HttpServiceTest, OneTooManyIsTurnedAwayAndComesInLater) {
  std::vector<UniqueFd> all;
  for (size_t i = 0; i < HttpService::kMostClients; ++i) all.push_back(connect());
  EXPECT_EQ(hear(connect()), "|END");
  all.clear();
  std::string answer;
  for (int i = 0; i < 100 && !answer.starts_with("HTTP/1.1 200"); ++i) {
    const auto fd = connect();
    const std::string_view request = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    static_cast<void>(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL));
    answer = hear(fd);
  }
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
}

class Waiter final : public Watcher {
 public:
  explicit Waiter(int fd) : fd_(fd) {}
  void readable() override {
    std::array<char, 16> bytes{};
    if (::recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) ++read;
  }
  void gone() override { ++ended; }
  std::atomic<int> read = 0, ended = 0;

 private:
  int fd_;
};

TEST_F(HttpServiceTest, OtherDescriptorsAreWatched) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  UniqueFd own(ends[0]);
  Waiter waiter(ends[1]);
  std::unique_ptr<Watch> watch;
  service_->run_there([&] { watch = service_->watch(UniqueFd(ends[1]), waiter); });
  ASSERT_NE(watch, nullptr);
  say(own, "x");
  for (int i = 0; i < 1000 && waiter.read == 0; ++i) service_->run_there([] {});
  EXPECT_EQ(waiter.read, 1);
  service_->run_there([&] { watch.reset(); });
  EXPECT_EQ(hear(own), "|END");
  EXPECT_EQ(waiter.ended, 0);
}

}  // namespace
}  // namespace limen::web
#endif
