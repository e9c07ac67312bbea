// The WebSocket protocol's server side (RFC 6455), as browsers' VNC clients speak it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "vnc/protocol.h"

namespace limen::vnc {

/// What Sec-WebSocket-Accept says to a client's key (§4.2.2).
[[nodiscard]] std::string accept_key(std::string_view key);

class WebSocket {
 public:
  /// What came from the client, unwrapped, is appended to `data`; what must be sent as it is
  /// (handshake, pongs) to `answer`. Fails for what the protocol does not have, with an HTTP error
  /// in `answer` where the handshake was wrong.
  Result<> receive(std::span<const uint8_t> bytes, Bytes& data, Bytes& answer);
  /// Wraps one binary message.
  static void wrap(std::span<const uint8_t> message, Bytes& out);
  [[nodiscard]] bool is_open() const { return open_; }
  /// The client said good-bye.
  [[nodiscard]] bool is_closing() const { return closing_; }

 private:
  Result<bool> handshake(Bytes& answer);
  Result<size_t> header(std::span<const uint8_t> bytes);
  void control(Bytes& answer);

  bool open_ = false;
  bool closing_ = false;
  Bytes pending_;
  // The frame that is being received.
  uint8_t opcode_ = 0;
  uint64_t left_ = 0;  ///< Of its payload.
  uint8_t mask_[4] = {};
  unsigned mask_at_ = 0;
  bool in_frame_ = false;
  Bytes control_payload_;
};

}  // namespace limen::vnc
