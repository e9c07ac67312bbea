#include "vnc/client_protocol.h"

#include <gmock/gmock.h>

#include <string>

#include "vnc/key_symbols.h"
#include "vnc/web_socket.h"

namespace limen::vnc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Writes down what a client made happen.
class Recorder final : public ClientActions {
 public:
  void send(std::span<const uint8_t> bytes) override {
    sent.insert(sent.end(), bytes.begin(), bytes.end());
  }
  void start_tls() override { log.emplace_back("tls"); }
  bool password_matches(std::span<const uint8_t, 16> challenge,
                        std::span<const uint8_t, 16> response) override {
    // For the test, the right answer is the challenge itself.
    return std::equal(challenge.begin(), challenge.end(), response.begin());
  }
  void refuse() override { log.emplace_back("refused"); }
  void initialized(bool shared) override { log.emplace_back(shared ? "shared" : "exclusive"); }
  void set_pixel_format(std::span<const uint8_t>) override { log.emplace_back("format"); }
  void set_encodings(const std::vector<int32_t>& encodings) override {
    std::string text = "encodings";
    for (const auto each : encodings) text += " " + std::to_string(each);
    log.push_back(text);
  }
  void request_update(std::span<const uint8_t> message) override {
    log.push_back("update " + std::to_string(message.size()));
  }
  void key(uint32_t symbol, bool down) override {
    log.push_back("key " + std::to_string(symbol) + (down ? " down" : " up"));
  }
  void scan_code(uint32_t, uint32_t code, bool down) override {
    log.push_back("scan " + std::to_string(code) + (down ? " down" : " up"));
  }
  void pointer(uint8_t buttons, uint16_t x, uint16_t y) override {
    log.push_back("pointer " + std::to_string(buttons) + " " + std::to_string(x) + " " +
                  std::to_string(y));
  }
  void set_desktop_size(uint16_t width, uint16_t height) override {
    log.push_back("size " + std::to_string(width) + " " + std::to_string(height));
  }
  Bytes take() { return std::exchange(sent, {}); }

  Bytes sent;
  std::vector<std::string> log;
};

Bytes text(std::string_view characters) { return {characters.begin(), characters.end()}; }

class ClientProtocolTest : public testing::Test {
 protected:
  void begin(ClientProtocol::Security security, std::string_view version = "RFB 003.008\n") {
    protocol_ = std::make_unique<ClientProtocol>(actions_, security);
    actions_.take();
    protocol_->start();
    EXPECT_EQ(actions_.take(), text("RFB 003.008\n"));
    feed(text(version));
  }
  void feed(const Bytes& bytes) {
    const auto fed = protocol_->feed(bytes);
    EXPECT_TRUE(fed) << fed.error().message;
  }
  std::string error(const Bytes& bytes) {
    const auto fed = protocol_->feed(bytes);
    return fed ? "" : fed.error().message;
  }
  void reach_messages() {
    begin({});
    feed({1, 1});
    actions_.take();
    actions_.log.clear();
  }

  Recorder actions_;
  std::unique_ptr<ClientProtocol> protocol_;
};

TEST_F(ClientProtocolTest, OpensWithoutPassword) {
  begin({});
  EXPECT_THAT(actions_.take(), ElementsAre(1, 1));
  feed({1});
  EXPECT_THAT(actions_.take(), ElementsAre(0, 0, 0, 0));
  EXPECT_FALSE(protocol_->is_initialized());
  feed({0});
  EXPECT_TRUE(protocol_->is_initialized());
  EXPECT_THAT(actions_.log, ElementsAre("exclusive"));
}

TEST_F(ClientProtocolTest, OldVersionsAreToldTheSecurityType) {
  begin({}, "RFB 003.003\n");
  EXPECT_THAT(actions_.take(), ElementsAre(0, 0, 0, 1));
  feed({1});
  EXPECT_TRUE(protocol_->is_initialized());
}

TEST_F(ClientProtocolTest, AsksForThePassword) {
  begin({.password = true});
  EXPECT_THAT(actions_.take(), ElementsAre(1, 2));
  feed({2});
  const auto challenge = actions_.take();
  ASSERT_EQ(challenge.size(), 16u);
  feed(challenge);
  EXPECT_THAT(actions_.take(), ElementsAre(0, 0, 0, 0));
}

TEST_F(ClientProtocolTest, WrongPasswordOpensNothing) {
  begin({.password = true});
  feed({2});
  actions_.take();
  feed(Bytes(16, 0x55));
  EXPECT_THAT(actions_.log, ElementsAre("refused"));
  EXPECT_TRUE(actions_.take().empty());
  feed({1, 0, 0});
  EXPECT_FALSE(protocol_->is_initialized());
  EXPECT_THAT(std::string(reinterpret_cast<const char*>(protocol_->refusal().data()),
                          protocol_->refusal().size()),
              HasSubstr("Authentication failed"));
}

TEST_F(ClientProtocolTest, CannotSkipSecurity) {
  begin({.password = true});
  EXPECT_THAT(error({1}), HasSubstr("was not offered"));
  begin({.password = true, .tls = true});
  EXPECT_THAT(error({2}), HasSubstr("was not offered"));
  protocol_ = std::make_unique<ClientProtocol>(actions_, ClientProtocol::Security{.tls = true});
  EXPECT_THAT(error(text("RFB 003.003\n")), HasSubstr("no TLS"));
}

TEST_F(ClientProtocolTest, VeNCryptLeadsToTls) {
  begin({.password = true, .tls = true});
  EXPECT_THAT(actions_.take(), ElementsAre(1, 19));
  feed({19});
  EXPECT_THAT(actions_.take(), ElementsAre(0, 2));
  feed({0, 2});
  EXPECT_THAT(actions_.take(), ElementsAre(0, 1, 0, 0, 1, 5));
  feed({0, 0, 1, 5});
  EXPECT_THAT(actions_.take(), ElementsAre(1));
  EXPECT_THAT(actions_.log, ElementsAre("tls"));
  EXPECT_NE(error({1}), "");
  protocol_->tls_is_up();
  EXPECT_EQ(actions_.take().size(), 16u);
}

TEST_F(ClientProtocolTest, ReadsMessagesInAnyPieces) {
  reach_messages();
  const Bytes all = {2,   0, 0, 2, 0, 0, 0, 7,  0xFF, 0xFF, 0xFE, 0xFD,  // encodings
                     3,   1, 0, 0, 0, 0, 0, 9,  0,    9,                 // update
                     4,   1, 0, 0, 0, 0, 0, 65,                          // key
                     5,   4, 0, 7, 0, 8,                                 // pointer
                     6,   0, 0, 0, 0, 0, 0, 3,  'a',  'b',  'c',         // cut text
                     255, 0, 0, 1, 0, 0, 0, 0,  0,    0,    0,    0x1E,  // extended key
                     251, 0, 4, 0, 3, 0, 0, 0};                          // desktop size
  for (const uint8_t byte : all) feed({byte});
  const auto in_pieces = std::exchange(actions_.log, {});
  feed(all);
  EXPECT_EQ(actions_.log, in_pieces);
  EXPECT_THAT(in_pieces, ElementsAre("encodings 7 -259", "update 10", "key 65 down",
                                     "pointer 4 7 8", "scan 30 down", "size 1024 768"));
}

TEST_F(ClientProtocolTest, RefusesWhatIsNoMessage) {
  begin({});
  feed({1, 1});
  EXPECT_THAT(error({77}), HasSubstr("message type 77"));
  reach_messages();
  EXPECT_THAT(error({0, 0, 0, 0, 24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16, 0, 0, 0}),
              HasSubstr("pixel format"));
  reach_messages();
  EXPECT_THAT(error({2, 0, 0xFF, 0xFF}), HasSubstr("too many"));
  reach_messages();
  EXPECT_THAT(error({6, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF}), HasSubstr("too long"));
  protocol_ = std::make_unique<ClientProtocol>(actions_, ClientProtocol::Security{});
  EXPECT_THAT(error(text("GET / HTTP/1.1\r\n")), HasSubstr("no VNC client"));
}

TEST(KeySymbols, KnowTheAmericanKeyboard) {
  const auto expect = [](uint32_t symbol, unsigned code, SymbolKey::Shift shift) {
    const auto key = find_symbol(symbol);
    ASSERT_TRUE(key) << symbol;
    EXPECT_EQ(key->code, code);
    EXPECT_EQ(key->shift, shift);
  };
  using Shift = SymbolKey::Shift;
  expect('a', 0x1E, Shift::kUp);
  expect('A', 0x1E, Shift::kDown);
  expect('?', 0x35, Shift::kDown);
  expect('`', 0x29, Shift::kUp);
  expect('|', 0x2B, Shift::kDown);
  expect(0xFF0D, 0x1C, Shift::kAny);
  expect(0xFF52, 0xC8, Shift::kAny);
  expect(0xFFC8, 0x57, Shift::kAny);  // F11
  for (uint32_t c = 0x20; c < 0x7F; ++c) EXPECT_TRUE(find_symbol(c)) << c;
  EXPECT_FALSE(find_symbol(0x20AC));
}

TEST(WebSocket, AnswersTheHandshakeOfTheRfc) {
  EXPECT_EQ(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  WebSocket socket;
  Bytes data, answer;
  const auto request = text(
      "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Protocol: binary\r\n\r\n");
  for (const uint8_t byte : request) ASSERT_TRUE(socket.receive(Bytes{byte}, data, answer));
  EXPECT_TRUE(socket.is_open());
  EXPECT_THAT(std::string(answer.begin(), answer.end()), HasSubstr("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
  // A masked frame and a ping within it (RFC 6455 §5.7).
  ASSERT_TRUE(
      socket.receive(Bytes{0x02, 0x82, 1, 2,   3,    4,    'h' ^ 1, 'i' ^ 2, 0x89, 0x81, 0,
                           0,    0,    0, 'p', 0x80, 0x81, 9,       9,       9,    9,    '!' ^ 9},
                     data, answer = {}));
  EXPECT_EQ(data, text("hi!"));
  EXPECT_THAT(answer, ElementsAre(0x8A, 1, 'p'));
  Bytes wrapped;
  WebSocket::wrap(Bytes(200, 7), wrapped);
  EXPECT_EQ(wrapped.size(), 204u);
  EXPECT_FALSE(socket.receive(Bytes{0x82, 0x01, 'x'}, data, answer));  // no mask
}

TEST(WebSocket, RefusesAPlainBrowser) {
  WebSocket socket;
  Bytes data, answer;
  EXPECT_FALSE(socket.receive(text("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), data, answer));
  EXPECT_THAT(std::string(answer.begin(), answer.end()), HasSubstr("400 Bad Request"));
}

}  // namespace
}  // namespace limen::vnc
