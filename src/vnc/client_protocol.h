// What a VNC client says, read byte by byte: greeting, security, messages. Knows no socket.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "vnc/protocol.h"

namespace limen::vnc {

/// What follows from what a client says.
class ClientActions {
 public:
  virtual ~ClientActions() = default;
  virtual void send(std::span<const uint8_t> bytes) = 0;
  /// What comes from here on is TLS; tell of its end with ClientProtocol::tls_is_up().
  virtual void start_tls() = 0;
  /// `response`: `challenge` encrypted with the password.
  virtual bool password_matches(std::span<const uint8_t, 16> challenge,
                                std::span<const uint8_t, 16> response) = 0;
  /// The password was wrong: after a while refusal() is to be sent and the connection closed.
  virtual void refuse() = 0;
  /// Initialised: the server's own initialisation message is next.
  virtual void initialized(bool shared) = 0;

  // Messages. `message`: as it came.
  virtual void set_pixel_format(std::span<const uint8_t> message) = 0;
  virtual void set_encodings(const std::vector<int32_t>& encodings) = 0;
  virtual void request_update(std::span<const uint8_t> message) = 0;
  virtual void key(uint32_t symbol, bool down) = 0;
  /// A key by its scan code, as the extended key event has it.
  virtual void scan_code(uint32_t symbol, uint32_t code, bool down) = 0;
  virtual void pointer(uint8_t buttons, uint16_t x, uint16_t y) = 0;
  virtual void set_desktop_size(uint16_t width, uint16_t height) = 0;
};

class ClientProtocol {
 public:
  struct Security {
    bool password = false;
    bool tls = false;
    bool anonymous_tls = false;
    bool on_tls_already = false;  ///< The connection is encrypted below this.
  };

  ClientProtocol(ClientActions& actions, Security security);

  /// Greets.
  void start();
  /// Everything that came. Fails for what the protocol does not have: the client is to be dropped.
  Result<> feed(std::span<const uint8_t> bytes);
  void tls_is_up();
  /// What a client is told whose password was wrong.
  [[nodiscard]] Bytes refusal() const;
  [[nodiscard]] bool is_initialized() const { return state_ == State::kMessages; }

 private:
  enum class State : uint8_t {
    kVersion,
    kSecurityType,
    kVeNCryptVersion,
    kVeNCryptType,
    kTls,
    kResponse,
    kRefused,
    kClientInit,
    kMessages,
  };
  using Input = std::span<const uint8_t>;

  // Each takes one element from the start of `input` and returns its size; 0: it is not complete.
  Result<size_t> step(Input input);
  Result<size_t> version(Input input);
  Result<size_t> security_type(Input input);
  Result<size_t> vencrypt_version(Input input);
  Result<size_t> vencrypt_type(Input input);
  Result<size_t> response(Input input);
  Result<size_t> message(Input input);
  Result<size_t> encodings(Input input);
  Result<size_t> qemu_message(Input input);
  Result<size_t> cut_text(Input input);
  Result<size_t> desktop_size(Input input);

  void authenticate(bool password);
  void authenticated();
  [[nodiscard]] std::vector<uint32_t> vencrypt_types() const;

  ClientActions& actions_;
  const Security security_;
  State state_ = State::kVersion;
  unsigned minor_version_ = 8;
  bool password_within_tls_ = false;
  std::array<uint8_t, 16> challenge_{};
  Bytes pending_;    ///< Of an element that is not complete.
  size_t skip_ = 0;  ///< Bytes to come that nobody wants.
};

}  // namespace limen::vnc
