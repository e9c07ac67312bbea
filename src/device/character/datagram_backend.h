// Datagrams as a character back end: QEMU's udp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "device/character/socket_address.h"
#include "device/character_backend.h"

namespace limen::device {

/// What a front end writes at once is a datagram, up to the size that one has; what arrives from
/// the peer is input. What is lost on the way is lost.
class DatagramBackend final : public CharacterBackend {
 public:
  /// `local`: without a port, any; without a host, all addresses.
  static Result<std::unique_ptr<DatagramBackend>> create(EventLoop& loop,
                                                         const SocketAddress& remote,
                                                         const SocketAddress& local);
  ~DatagramBackend() override;

  void write(std::span<const uint8_t> bytes) override;
  void accept_input() override;
  [[nodiscard]] std::string filename() const override { return "udp"; }

 private:
  DatagramBackend(EventLoop& loop, UniqueFd socket) : loop_(loop), socket_(std::move(socket)) {}
  void receiver_changed() override { accept_input(); }
  void deliver();

  EventLoop& loop_;
  UniqueFd socket_;
  bool watched_ = false;        // loop thread
  std::vector<uint8_t> input_;  // loop thread: of a datagram, not yet taken
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace limen::device
