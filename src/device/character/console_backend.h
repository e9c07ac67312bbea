// A terminal that is shown elsewhere, as a character back end: any number of viewers, and what was
// written before they came.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "device/character_backend.h"

namespace limen::device {

/// What viewers see of it. Keeps the last kKept bytes that were written. A viewer reads at its own
/// speed from where it stands; one that is too slow misses what has gone meanwhile and holds up
/// nobody. Thread-safe; it may outlive the back end.
class ConsoleStream {
 public:
  static constexpr size_t kKept = size_t{256} << 10;
  static constexpr size_t kInputLimit = size_t{1} << 16;

  struct Piece {
    std::vector<uint8_t> bytes;
    uint64_t next = 0;  ///< Where the rest begins.
  };
  /// At most `most` bytes from place `from` on, counted from the first that was ever written; if
  /// they are gone, from the first whole line that is kept.
  [[nodiscard]] Piece read(uint64_t from, size_t most) const;
  /// `written` is called, on any thread, after every write that follows; it is short and does not
  /// call back. Null: nobody.
  void set_listener(std::function<void()> written);
  /// What a viewer types. False: the front end does not take what came before, and it is dropped.
  bool type(std::span<const uint8_t> bytes);

 private:
  friend class ConsoleBackend;
  void write(std::span<const uint8_t> bytes);
  std::vector<uint8_t> take_typed();
  void put_back(std::span<const uint8_t> bytes);

  mutable std::mutex mutex_;
  std::vector<uint8_t> kept_ = std::vector<uint8_t>(kKept);  // a ring; guarded by mutex_, as
  uint64_t written_ = 0;                                     // the rest up to
  std::vector<uint8_t> typed_;                               // here
  std::mutex listeners_mutex_;
  std::function<void()> written_listener_;  // guarded by listeners_mutex_
  std::function<void()> typed_listener_;    // guarded by listeners_mutex_
};

class ConsoleBackend final : public CharacterBackend {
 public:
  explicit ConsoleBackend(EventLoop& loop);
  /// On the loop's thread, or when it does not run.
  ~ConsoleBackend() override;

  void write(std::span<const uint8_t> bytes) override { stream_->write(bytes); }
  void accept_input() override;
  [[nodiscard]] std::string filename() const override { return "web"; }
  [[nodiscard]] std::shared_ptr<ConsoleStream> stream() const { return stream_; }

 private:
  void receiver_changed() override { accept_input(); }
  /// On the loop's thread.
  void deliver();

  EventLoop& loop_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::atomic<bool> deliver_posted_ = false;
  std::shared_ptr<ConsoleStream> stream_ = std::make_shared<ConsoleStream>();
};

}  // namespace limen::device
