// A stream socket as a character back end.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "device/character/socket_address.h"
#include "device/character/stream_backend.h"

namespace limen::device {

/// One peer at a time. A server takes the next client when the one that it has went away; a client
/// connects again if it was told to.
class SocketBackend final : public StreamBackend {
 public:
  struct Options {
    SocketAddress address = {};
    bool server = false;
    bool wait = true;  ///< A server: create() comes back when a client is there.
    bool telnet = false;
    std::chrono::milliseconds reconnect{0};  ///< A client: how long after the end; 0: never.
  };

  static Result<std::unique_ptr<SocketBackend>> create(EventLoop& loop, Options options);
  ~SocketBackend() override;

  /// As query-chardev and `info chardev` have it.
  [[nodiscard]] std::string filename() const override;
  /// Where a server listens, as resolved: the port that the system chose for port 0.
  [[nodiscard]] std::string listening_name() const { return socket_name(listener_.get(), false); }

 private:
  SocketBackend(EventLoop& loop, Options options);
  Result<> open();
  Result<> wait_for_client();
  void client_waits();
  void try_to_connect();
  Result<> attach(UniqueFd fd);
  void watch_listener(bool wanted);
  void peer_gone() override;

  const Options options_;
  UniqueFd listener_;
  bool listener_watched_ = false;
  std::string peer_name_;
  std::string own_name_;
  Timer retry_;
};

}  // namespace limen::device
