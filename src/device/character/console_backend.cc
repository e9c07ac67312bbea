#include "device/character/console_backend.h"

#include <algorithm>
#include <utility>

namespace limen::device {

void ConsoleStream::write(std::span<const uint8_t> bytes) {
  if (bytes.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    const size_t skipped = bytes.size() - std::min(bytes.size(), kKept);
    written_ += skipped;
    for (auto rest = bytes.subspan(skipped); !rest.empty();) {
      const size_t at = written_ % kKept;
      const size_t count = std::min(rest.size(), kKept - at);
      std::ranges::copy(rest.first(count), kept_.begin() + static_cast<ptrdiff_t>(at));
      written_ += count;
      rest = rest.subspan(count);
    }
  }
  const std::lock_guard lock(listeners_mutex_);
  if (written_listener_) written_listener_();
}

ConsoleStream::Piece ConsoleStream::read(uint64_t from, size_t most) const {
  const std::lock_guard lock(mutex_);
  from = std::min(from, written_);
  if (written_ - from > kKept) {
    // The middle of a line may be the middle of a character or of an escape sequence.
    const uint64_t oldest = written_ - kKept;
    from = oldest;
    while (from < written_ && kept_[from % kKept] != '\n') ++from;
    from = from == written_ ? oldest : from + 1;
  }
  Piece piece;
  const auto count = static_cast<size_t>(std::min<uint64_t>(most, written_ - from));
  piece.bytes.reserve(count);
  for (size_t i = 0; i < count; ++i) piece.bytes.push_back(kept_[(from + i) % kKept]);
  piece.next = from + count;
  return piece;
}

void ConsoleStream::set_listener(std::function<void()> written) {
  const std::lock_guard lock(listeners_mutex_);
  written_listener_ = std::move(written);
}

bool ConsoleStream::type(std::span<const uint8_t> bytes) {
  {
    const std::lock_guard lock(mutex_);
    if (typed_.size() + bytes.size() > kInputLimit) return false;
    typed_.insert(typed_.end(), bytes.begin(), bytes.end());
  }
  const std::lock_guard lock(listeners_mutex_);
  if (typed_listener_) typed_listener_();
  return true;
}

std::vector<uint8_t> ConsoleStream::take_typed() {
  const std::lock_guard lock(mutex_);
  return std::exchange(typed_, {});
}

void ConsoleStream::put_back(std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  typed_.insert(typed_.begin(), bytes.begin(), bytes.end());
}

ConsoleBackend::ConsoleBackend(EventLoop& loop) : loop_(loop) {
  stream_->typed_listener_ = [this] { accept_input(); };
}

ConsoleBackend::~ConsoleBackend() {
  const std::lock_guard lock(stream_->listeners_mutex_);
  stream_->typed_listener_ = {};
}

void ConsoleBackend::accept_input() {
  if (deliver_posted_.exchange(true)) return;
  loop_.post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    deliver_posted_ = false;
    deliver();
  });
}

void ConsoleBackend::deliver() {
  const auto typed = stream_->take_typed();
  size_t taken = 0;
  while (taken < typed.size() && can_receive_ && receive_) {
    const size_t count = std::min(can_receive_(), typed.size() - taken);
    if (count == 0) break;
    receive_(std::span<const uint8_t>(typed).subspan(taken, count));
    taken += count;
  }
  if (taken < typed.size()) stream_->put_back(std::span<const uint8_t>(typed).subspan(taken));
}

}  // namespace limen::device
