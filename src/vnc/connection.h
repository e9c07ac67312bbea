// One client of a VNC server: its socket, what stands on it, and what it does.
#pragma once

#include <memory>
#include <set>
#include <string>

#include "base/event_loop.h"
#include "base/unique_fd.h"
#include "display/input.h"
#include "vnc/client_protocol.h"
#include "vnc/encoder.h"
#include "vnc/tls.h"
#include "vnc/web_socket.h"

namespace limen::vnc {

class Connection;

/// What a connection asks of its server. On the server's thread.
class ConnectionHost {
 public:
  virtual ~ConnectionHost() = default;
  virtual bool password_matches(std::span<const uint8_t, 16> challenge,
                                std::span<const uint8_t, 16> response) = 0;
  /// The client is through. False: it may not join the others.
  virtual bool joined(Connection& connection, bool shared) = 0;
  /// It did something: the picture will change soon.
  virtual void stir() = 0;
  virtual void wish_size(unsigned width, unsigned height) = 0;
  /// It is to be destroyed, soon.
  virtual void over(Connection& connection) = 0;
  [[nodiscard]] virtual Encoder& encoder() = 0;
  [[nodiscard]] virtual display::Input& input() = 0;
};

/// All on the server's thread.
class Connection final : private ClientActions {
 public:
  struct Way {
    bool websocket = false;
    bool lossy = false;
    ClientProtocol::Security security = {};
    std::shared_ptr<TlsCredentials> credentials = {};
  };
  Connection(EventLoop& loop, ConnectionHost& host, UniqueFd fd, Way way);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Result<> start();
  /// Sends what changed of the picture, unless the client is slow. Called now and then.
  void update();

  struct Address {
    std::string host = {}, service = {}, family = {};
  };
  [[nodiscard]] const Address& peer() const { return peer_; }
  [[nodiscard]] const Address& local() const { return local_; }
  [[nodiscard]] bool is_websocket() const { return way_.websocket; }
  [[nodiscard]] bool is_initialized() const { return client_ != nullptr; }
  /// For messages.
  [[nodiscard]] std::string name() const;
  void close(const std::string& why);
  [[nodiscard]] bool is_over() const { return over_; }

  static Address address_of(int fd, bool peer);

 private:
  // ClientActions
  void send(std::span<const uint8_t> bytes) override;
  void start_tls() override;
  bool password_matches(std::span<const uint8_t, 16> challenge,
                        std::span<const uint8_t, 16> response) override;
  void refuse() override;
  void initialized(bool shared) override;
  void set_pixel_format(std::span<const uint8_t> message) override;
  void set_encodings(const std::vector<int32_t>& encodings) override;
  void request_update(std::span<const uint8_t> message) override;
  void key(uint32_t symbol, bool down) override;
  void scan_code(uint32_t symbol, uint32_t code, bool down) override;
  void pointer(uint8_t buttons, uint16_t x, uint16_t y) override;
  void set_desktop_size(uint16_t width, uint16_t height) override;

  void ready(uint32_t events);
  void receive();
  Result<> received(std::span<const uint8_t> bytes);
  Result<> begin_tls();
  void send_raw(std::span<const uint8_t> bytes);
  void flush();
  void watch(bool output);
  void take_encoded();
  void to_library(std::span<const uint8_t> message);
  void press(display::KeyCode code, bool down);
  void type_symbol(uint32_t symbol, bool down);
  void let_go();
  void tell_of_pointer();
  void tell_of_lights();
  void send_rectangle(unsigned x, int32_t encoding, std::span<const uint8_t> data);

  EventLoop& loop_;
  ConnectionHost& host_;
  UniqueFd fd_;
  const Way way_;
  Address peer_, local_;
  ClientProtocol protocol_;
  std::unique_ptr<WebSocket> websocket_;
  std::unique_ptr<TlsSession> tls_;
  std::unique_ptr<Encoder::Client> client_;
  bool over_ = false;
  bool watched_ = false;
  bool watches_output_ = false;

  Bytes output_;
  size_t sent_ = 0;  ///< Of `output_`.
  Timer patience_;   ///< For a client that takes nothing, or does not say who it is.
  Timer refusal_;    ///< Before a wrong password is told.

  // What the client understands.
  bool relative_pointer_ = false;
  bool extended_key_ = false;
  bool led_state_ = false;
  std::optional<bool> told_absolute_;
  std::optional<uint8_t> told_lights_;

  // What it did.
  std::set<display::KeyCode> keys_;
  std::vector<std::pair<uint32_t, display::KeyCode>> symbols_;  ///< That are down, and their keys.
  uint8_t buttons_ = 0;
  int last_x_ = 0, last_y_ = 0;
  bool has_position_ = false;
};

}  // namespace limen::vnc
