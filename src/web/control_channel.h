// Buttons and status in a WebSocket: JSON, a message a command.
#pragma once

#include <deque>
#include <functional>
#include <string>

#include "web/command.h"
#include "web/http_service.h"

namespace limen::web {

class ControlChannel final : public Channel {
 public:
  struct Actions {
    std::function<void(ControlChannel&)> opened;
    std::function<void(ControlChannel&)> closed;
    std::function<void(ControlChannel&, Command)> command;
  };
  ControlChannel(Actions actions, Socket& socket, unsigned number)
      : actions_(std::move(actions)), socket_(socket), number_(number) {}
  ~ControlChannel() override { actions_.closed(*this); }
  ControlChannel(const ControlChannel&) = delete;
  ControlChannel& operator=(const ControlChannel&) = delete;

  /// Tells this client from those before and after.
  [[nodiscard]] unsigned number() const { return number_; }
  void opened() override { actions_.opened(*this); }
  Result<> received(std::span<const uint8_t> piece, bool last) override;
  std::optional<Message> next() override;

  /// A message that is to arrive. Fewer than kMostMessages wait; the oldest give way.
  void send(std::string message);
  /// One that the next of its kind replaces.
  void send_status(std::string message);
  [[nodiscard]] bool is_idle() const { return messages_.empty() && status_.empty(); }

 private:
  static constexpr size_t kMostMessages = 32;

  const Actions actions_;
  Socket& socket_;
  const unsigned number_;
  std::string received_;  ///< Of a message that is not whole.
  std::deque<std::string> messages_;
  std::string status_;
};

}  // namespace limen::web
