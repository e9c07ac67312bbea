// -netdev stream, and socket with listen= or connect=: frames over a stream socket, each behind its
// length in 4 bytes of network order. What QEMU and passt speak.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "net/options.h"
#include "net/port.h"

namespace limen::net {

class StreamBackend final : public Port {
 public:
  /// `loop` is the network's. Call on its thread. A client connects before it returns; one that may
  /// reconnect goes on trying.
  static Result<std::unique_ptr<Port>> create(const StreamOptions& options, const std::string& id,
                                              EventLoop& loop);
  /// Over a socket that is connected.
  static Result<std::unique_ptr<Port>> adopt(UniqueFd socket, const std::string& id,
                                             EventLoop& loop);
  ~StreamBackend() override;

  [[nodiscard]] std::string describe() const override;

 protected:
  Delivery receive(const Frame& frame, unsigned queue) override;
  void peer_ready() override;

 private:
  StreamBackend(const StreamOptions& options, std::string id, EventLoop& loop);
  Result<> listen();
  Result<> connect();
  void accept();
  Result<> attach(UniqueFd socket);
  void lose(const std::string& reason);
  void update_watch();
  void flush();
  void read_frames();
  bool deliver();

  const StreamOptions options_;
  std::string id_;
  EventLoop& loop_;
  UniqueFd listener_;
  std::string made_path_;  ///< A UNIX socket of ours, removed in the end.
  UniqueFd socket_;
  Timer reconnect_;
  bool read_blocked_ = false;
  std::vector<std::byte> unsent_;  ///< What the socket had no room for: at most one frame.
  size_t sent_ = 0;                ///< Of `unsent_`.
  std::vector<std::byte> input_;
  size_t input_start_ = 0, input_end_ = 0;
};

}  // namespace limen::net
