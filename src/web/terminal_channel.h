// A serial port, console or monitor in a WebSocket.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "device/character/console_backend.h"
#include "web/http_service.h"

namespace limen::web {

/// Bytes both ways. The first message is all that was written before, as far as it is kept: a
/// terminal answers no questions in it. One that reads slowly misses some of what follows. What is
/// typed waits here while the guest does not take it.
class TerminalChannel final : public Channel {
 public:
  /// `closed` is called at its end.
  TerminalChannel(std::shared_ptr<device::ConsoleStream> stream, Socket& socket,
                  std::function<void(TerminalChannel&)> closed)
      : stream_(std::move(stream)), socket_(socket), closed_(std::move(closed)) {}
  ~TerminalChannel() override { closed_(*this); }
  TerminalChannel(const TerminalChannel&) = delete;
  TerminalChannel& operator=(const TerminalChannel&) = delete;

  void opened() override { socket_.want_write(); }
  Result<> received(std::span<const uint8_t> piece, bool last) override;
  std::optional<Message> next() override;
  void woken() override;

  /// Something was written.
  void stir() { socket_.want_write(); }

 private:
  std::shared_ptr<device::ConsoleStream> stream_;
  Socket& socket_;
  const std::function<void(TerminalChannel&)> closed_;
  bool begun_ = false;          ///< The first message is on its way.
  uint64_t place_ = 0;          ///< In the stream.
  std::vector<uint8_t> typed_;  ///< That the stream has not taken.
};

}  // namespace limen::web
