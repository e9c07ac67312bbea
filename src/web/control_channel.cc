#include "web/control_channel.h"

#include <utility>

namespace limen::web {

Result<> ControlChannel::received(std::span<const uint8_t> piece, bool last) {
  if (received_.size() + piece.size() > kLongestCommand)
    return fail("a message of over {} bytes", kLongestCommand);
  received_.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  if (!last) return {};
  const auto message = std::exchange(received_, {});
  actions_.command(*this, LIMEN_TRY(parse_command(message)));
  return {};
}

std::optional<Channel::Message> ControlChannel::next() {
  std::string text;
  if (!messages_.empty()) {
    text = std::move(messages_.front());
    messages_.pop_front();
  } else {
    text = std::exchange(status_, {});
  }
  if (text.empty()) return {};
  return Message{.bytes = {text.begin(), text.end()}, .text = true};
}

void ControlChannel::send(std::string message) {
  if (messages_.size() >= kMostMessages) messages_.pop_front();
  messages_.push_back(std::move(message));
  socket_.want_write();
}

void ControlChannel::send_status(std::string message) {
  status_ = std::move(message);
  socket_.want_write();
}

}  // namespace limen::web
