// -netdev dgram, and socket with mcast=, udp= or fd=: a frame per datagram.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "net/options.h"
#include "net/port.h"
#include "net/socket_address.h"

namespace limen::net {

class DatagramBackend final : public Port {
 public:
  /// `loop` is the network's. Call on its thread.
  static Result<std::unique_ptr<Port>> create(const DatagramOptions& options, const std::string& id,
                                              EventLoop& loop);
  /// Over a socket that was handed over; without `remote` it is connected.
  static Result<std::unique_ptr<Port>> adopt(UniqueFd socket, const DatagramOptions& options,
                                             const std::string& id, EventLoop& loop);
  ~DatagramBackend() override;

  [[nodiscard]] std::string describe() const override;

 protected:
  Delivery receive(const Frame& frame, unsigned queue) override;
  void peer_ready() override;

 private:
  DatagramBackend(std::string id, EventLoop& loop);
  Result<> bind(const DatagramOptions& options);
  Result<> join(const ResolvedAddress& group, const DatagramOptions& options);
  Result<> attach(UniqueFd socket);
  void update_watch();
  void read_frames();
  bool deliver();

  std::string id_;
  EventLoop& loop_;
  std::string description_;
  std::string made_path_;
  UniqueFd socket_;
  std::optional<ResolvedAddress> remote_;  ///< Nothing: the socket is connected.
  bool read_blocked_ = false, write_blocked_ = false;
  std::vector<std::byte> buffer_;
  size_t waiting_ = 0;
};

/// Datagrams, or a stream where the options hand over a stream socket.
Result<std::unique_ptr<Port>> create_socket_backend(const DatagramOptions& options,
                                                    const std::string& id, EventLoop& loop);

}  // namespace limen::net
