// The whole server at a machine without a board, over TCP.
#if LIMEN_WEB
#include "web/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <thread>

namespace limen::web {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    machine::MachineDescription description;
    description.type = "none";
    description.name = "a \"name\" <b>";
    description.characters.push_back(
        {.id = "serial0", .kind = machine::CharacterDescription::Kind::kWeb});
    auto machine = machine::Machine::create(description);
    ASSERT_TRUE(machine) << machine.error().message;
    machine_ = std::move(*machine);
    testing::internal::CaptureStderr();
    auto server = Server::create(*machine_, {.origin = "-display web", .host = "127.0.0.1"});
    printed_ = testing::internal::GetCapturedStderr();
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
    const auto& url = server_->url();
    ASSERT_THAT(url, testing::MatchesRegex("http://127.0.0.1:[0-9]+/.token=[0-9a-f]+"));
    port_ = static_cast<uint16_t>(std::stoul(url.substr(17)));
    token_ = url.substr(url.find('=') + 1);
    runner_ = std::thread([this] { static_cast<void>(machine_->run()); });
  }
  void TearDown() override {
    if (!runner_.joinable()) return;
    machine_->quit();
    runner_.join();
  }

  /// The first `most` bytes of the answer.
  std::string ask(const std::string& request, size_t most = SIZE_MAX) {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(request.size()));
    std::string answer;
    std::array<char, 4096> bytes{};
    while (answer.size() < most) {
      const auto count = ::recv(fd.get(), bytes.data(), bytes.size(), 0);
      if (count <= 0) break;
      answer.append(bytes.data(), static_cast<size_t>(count));
    }
    return answer;
  }
  std::string get(const std::string& path, const std::string& more = {}) {
    return ask("GET " + path + " HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n" + more +
               "\r\n");
  }
  std::string open(const std::string& path, size_t most) {
    return ask("GET " + path + "?token=" + token_ +
                   " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                   "\r\n",
               most);
  }

  std::unique_ptr<machine::Machine> machine_;
  std::unique_ptr<Server> server_;
  std::thread runner_;
  std::string printed_, token_;
  uint16_t port_ = 0;
};

TEST_F(ServerTest, PrintsItsAddress) {
  EXPECT_EQ(printed_, "web console: " + server_->url() + "\n");
  EXPECT_EQ(token_.size(), 64u);
}

TEST_F(ServerTest, TheTokenOpensThePageAndGivesACookie) {
  EXPECT_THAT(get("/"), StartsWith("HTTP/1.1 401 "));
  const auto page = get("/?token=" + token_);
  EXPECT_THAT(page, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(page, HasSubstr("content-encoding: gzip\r\n"));
  const auto at = page.find("set-cookie: ");
  ASSERT_NE(at, std::string::npos);
  const auto cookie = page.substr(at + 12, page.find(';', at) - at - 12);
  EXPECT_THAT(get("/page/main.js", "Cookie: " + cookie + "\r\n"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(get("/page/main.js"), StartsWith("HTTP/1.1 401 "));
  EXPECT_THAT(get("/x", "Cookie: " + cookie + "\r\n"), StartsWith("HTTP/1.1 404 "));
}

TEST_F(ServerTest, TheControlChannelTellsOfTheMachine) {
  const auto answer = open("/control", 500);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 101 "));
  EXPECT_THAT(answer, HasSubstr(R"("name":"a \"name\" <b>")"));
  EXPECT_THAT(answer, HasSubstr(R"("terminals":["serial0"])"));
  EXPECT_THAT(answer, HasSubstr(R"("state":"prelaunch")"));
}

#if LIMEN_VNC
TEST_F(ServerTest, TheScreenSpeaksRfb) {
  EXPECT_THAT(open("/screen", 140), HasSubstr("RFB 003.008\n"));
}
#endif

TEST_F(ServerTest, ATakenPortIsAnError) {
  const auto second = Server::create(*machine_, {.origin = "-display web,port=1",
                                                 .host = "127.0.0.1",
                                                 .first_port = port_,
                                                 .last_port = port_});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message,
            "-display web,port=1: port " + std::to_string(port_) +
                " of 127.0.0.1: Failed to find an available port: Address already in use");
}

}  // namespace
}  // namespace limen::web
#endif
