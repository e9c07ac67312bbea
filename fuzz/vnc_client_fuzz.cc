// What a VNC client sends: greeting, security and messages, in pieces, and the same within
// WebSocket frames.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <utility>

#include "vnc/client_protocol.h"
#include "vnc/key_symbols.h"
#include "vnc/web_socket.h"

namespace {

using namespace limen::vnc;  // NOLINT(google-build-using-namespace)

class Actions final : public ClientActions {
 public:
  void send(std::span<const uint8_t> bytes) override { sent += bytes.size(); }
  void start_tls() override { tls = true; }
  bool password_matches(std::span<const uint8_t, 16>,
                        std::span<const uint8_t, 16> response) override {
    return response[0] == 1;
  }
  void refuse() override { refused = true; }
  void initialized(bool) override {
    if (refused) std::abort();
  }
  void set_pixel_format(std::span<const uint8_t> message) override { expect(message, 20); }
  void set_encodings(const std::vector<int32_t>& encodings) override {
    if (encodings.size() > 1024) std::abort();
  }
  void request_update(std::span<const uint8_t> message) override { expect(message, 10); }
  void key(uint32_t symbol, bool) override {
    if (const auto key = find_symbol(symbol); key && (key->code == 0 || key->code > 0xFF))
      std::abort();
  }
  void scan_code(uint32_t, uint32_t, bool) override {}
  void pointer(uint8_t, uint16_t, uint16_t) override {}
  void set_desktop_size(uint16_t, uint16_t) override {}

  size_t sent = 0;
  bool tls = false, refused = false;

 private:
  static void expect(std::span<const uint8_t> message, size_t size) {
    if (message.size() != size) std::abort();
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint8_t choice = data[0];
  const size_t piece = 1 + data[1];
  std::span<const uint8_t> input(data + 2, size - 2);
  Actions actions;
  ClientProtocol protocol(actions, {.password = (choice & 1) != 0,
                                    .tls = (choice & 2) != 0,
                                    .anonymous_tls = (choice & 4) != 0,
                                    .on_tls_already = (choice & 8) != 0});
  protocol.start();
  WebSocket socket;
  while (!input.empty()) {
    const auto part = input.first(std::min(piece, input.size()));
    input = input.subspan(part.size());
    if ((choice & 16) == 0) {
      if (!protocol.feed(part)) break;
    } else {
      Bytes inner, answer;
      if (!socket.receive(part, inner, answer) || !protocol.feed(inner)) break;
    }
    if (std::exchange(actions.tls, false)) protocol.tls_is_up();
  }
  return 0;
}
