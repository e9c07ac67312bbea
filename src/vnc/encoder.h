// The picture for VNC clients: LibVNCServer's encodings without its sockets.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "display/screen.h"
#include "vnc/protocol.h"

namespace limen::vnc {

/// LibVNCServer writes to sockets and waits for them. Here it writes to one end of a pair whose
/// other end a thread of the encoder's empties into memory at once, and it reads only messages that
/// were checked and are complete: no client can make it wait. All calls on one thread.
class Encoder {
 public:
  class Client;

  static Result<std::unique_ptr<Encoder>> create(const std::string& name);
  ~Encoder();
  Encoder(const Encoder&) = delete;
  Encoder& operator=(const Encoder&) = delete;

  /// What changed of the picture; `resized`: the whole of another size.
  void show(const display::Frame& frame, std::span<const display::Rectangle> changed, bool resized);
  void set_pointer(const std::shared_ptr<const display::Pointer>& pointer);
  /// Where a client moved the pointer: drawn there for clients that do not draw it.
  void move_pointer(unsigned x, unsigned y);
  [[nodiscard]] unsigned width() const;
  [[nodiscard]] unsigned height() const;

 private:
  struct Library;
  class Pump;
  explicit Encoder(std::string name);

  std::unique_ptr<Library> library_;
  std::unique_ptr<Pump> pump_;
};

/// One client's encodings, pixel format and what it has been shown.
class Encoder::Client {
 public:
  static Result<std::unique_ptr<Client>> create(Encoder& encoder);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// A SetPixelFormat, SetEncodings or FramebufferUpdateRequest, checked. Fails when the library
  /// has given the client up.
  Result<> message(std::span<const uint8_t> message);
  /// Encodes what changed, if the client has asked for it.
  Result<> update();
  /// What is to be sent, whole messages.
  Bytes take();

 private:
  struct State;
  explicit Client(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace limen::vnc
