#include "web/terminal_channel.h"

#include <algorithm>
#include <utility>

namespace limen::web {
namespace {

constexpr size_t kLargestMessage = size_t{32} << 10;
constexpr std::chrono::milliseconds kRetry{50};
/// As long as so much waits, the socket does, too, and then it is not long until it is given up, as
/// it answers no ping.
constexpr size_t kEnough = size_t{512} << 10;
/// A few pieces may be on their way when the socket is told to wait.
constexpr size_t kTooMuch = size_t{1} << 20;

}  // namespace

Result<> TerminalChannel::received(std::span<const uint8_t> piece, bool) {
  if (typed_.empty() && stream_->type(piece)) return {};
  if (typed_.size() + piece.size() > kTooMuch) return fail("it types more than the guest takes");
  typed_.insert(typed_.end(), piece.begin(), piece.end());
  if (typed_.size() > kEnough) socket_.hold(true);
  socket_.wake_after(kRetry);
  return {};
}

void TerminalChannel::woken() {
  // In parts: all of it may be more than the stream takes at a time.
  while (!typed_.empty()) {
    const size_t size = std::min(typed_.size(), HttpService::kLargestPiece);
    if (!stream_->type(std::span(typed_).first(size))) return socket_.wake_after(kRetry);
    typed_.erase(typed_.begin(), typed_.begin() + static_cast<ptrdiff_t>(size));
    if (typed_.size() <= kEnough) socket_.hold(false);
  }
}

std::optional<Channel::Message> TerminalChannel::next() {
  const bool first = !std::exchange(begun_, true);
  auto piece = stream_->read(place_, first ? device::ConsoleStream::kKept : kLargestMessage);
  place_ = piece.next;
  if (piece.bytes.empty() && !first) return {};
  return Message{.bytes = std::move(piece.bytes)};
}

}  // namespace limen::web
