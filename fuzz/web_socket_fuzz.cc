// A client of the web console's, byte by byte, through libwebsockets: HTTP, or what comes after a
// WebSocket's handshake with the control channel or a terminal.
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/event_loop.h"
#include "device/character/console_backend.h"
#include "web/assets.h"
#include "web/control_channel.h"
#include "web/http_service.h"
#include "web/terminal_channel.h"

namespace {

using namespace limen;       // NOLINT(google-build-using-namespace)
using namespace limen::web;  // NOLINT(google-build-using-namespace)

const std::string kToken = "0123456789abcdef";

class Console final : public Handler {
 public:
  Console() {
    auto created = HttpService::create(*this, UniqueFd());
    if (!created) std::abort();
    service_ = std::move(*created);
  }

  Response answer(const Request& request) override {
    if (access_.check(request) != Verdict::kAllowed) return {.status = 401};
    const auto* asset = find_asset(request.path);
    if (asset == nullptr) return {.status = 404};
    return {.type = asset->type, .content = asset->content, .compressed = true};
  }
  std::expected<std::unique_ptr<Channel>, unsigned> open(const Request& request,
                                                         Socket& socket) override {
    if (access_.check(request) != Verdict::kAllowed) return std::unexpected(401u);
    if (request.path == "/terminal")
      return std::make_unique<TerminalChannel>(terminal_.stream(), socket, [](auto&) {});
    return std::make_unique<ControlChannel>(
        ControlChannel::Actions{.opened = [](auto& channel) { channel.send("{}"); },
                                .closed = [](auto&) {},
                                .command = [](auto& channel, Command) { channel.send("{}"); }},
        socket, 1u);
  }

  void serve(std::string_view bytes) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
      std::abort();
    const UniqueFd own(ends[0]);
    service_->run_there([&] { service_->adopt(UniqueFd(ends[1])); });
    std::array<char, 65536> answer;
    bool open = true;
    pollfd ready{.fd = own.get(), .events = 0, .revents = 0};
    while (open) {
      const auto sent =
          bytes.empty() ? 0 : ::send(own.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
      if (sent > 0 && bytes.empty()) ::shutdown(own.get(), SHUT_WR);
      if (sent < 0 && errno != EAGAIN) return;
      ready.events = bytes.empty() ? POLLIN : POLLIN | POLLOUT;
      constexpr int kPatience = 30'000;  // beyond all of the service's own
      const int count_ready = ::poll(&ready, 1, kPatience);
      if (count_ready < 0 && errno == EINTR) continue;  // libFuzzer's clock
      if (count_ready != 1) std::abort();
      if ((ready.revents & (POLLIN | POLLHUP)) == 0) continue;
      const auto count = ::recv(own.get(), answer.data(), answer.size(), 0);
      open = count > 0 || (count < 0 && errno == EAGAIN);
    }
  }

 private:
  Access access_{"127.0.0.1", kToken};
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create();
  device::ConsoleBackend terminal_{*loop_};
  std::unique_ptr<HttpService> service_;
};

std::string handshake(std::string_view path) {
  return "GET " + std::string(path) + "?token=" + kToken +
         " HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static Console console;
  std::string bytes;
  if (data[0] % 3 == 1) bytes = handshake("/control");
  if (data[0] % 3 == 2) bytes = handshake("/terminal");
  bytes.append(reinterpret_cast<const char*>(data + 1), size - 1);
  console.serve(bytes);
  return 0;
}
