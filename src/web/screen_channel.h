// The screen in a WebSocket: RFB, as noVNC speaks it, on its way to and from a VNC server.
#pragma once

#include <memory>
#include <vector>

#include "vnc/server.h"
#include "web/http_service.h"

namespace limen::web {

/// Bytes go through as they are: what a client says is checked where all VNC clients' is. One that
/// reads slowly gets less of the picture, as on a socket of its own.
class ScreenChannel final : public Channel, private Watcher {
 public:
  static Result<std::unique_ptr<ScreenChannel>> create(HttpService& service, vnc::Server& server,
                                                       Socket& socket);

  Result<> received(std::span<const uint8_t> piece, bool last) override;
  std::optional<Message> next() override;

 private:
  explicit ScreenChannel(Socket& socket) : socket_(socket) {}
  void readable() override;
  void writable() override;
  void gone() override { socket_.close(); }

  Socket& socket_;
  int fd_ = -1;  ///< `watch_` has it.
  std::unique_ptr<Watch> watch_;
  std::vector<uint8_t> to_client_;
  std::vector<uint8_t> to_server_;  ///< What it has not taken yet.
  bool held_ = false;
};

}  // namespace limen::web
