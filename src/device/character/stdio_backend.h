// The person's terminal as a character back end.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "device/character/escape_filter.h"
#include "device/character_backend.h"

namespace limen::device {

/// Standard input and output, or any other pair of descriptors. A terminal is put into raw mode and
/// put back at destruction, at exit and when a fatal signal ends the process.
///
/// Output goes out at once while the reader keeps up; what it does not take is kept, up to
/// kOutputLimit bytes, and sent when it can be; beyond that the oldest bytes stay and new ones are
/// dropped. A reader that went away (EPIPE) silences the output for good. The descriptors' own
/// blocking mode is left alone, as other processes may share them.
class StdioBackend final : public CharacterBackend {
 public:
  static constexpr size_t kOutputLimit = size_t{1} << 20;

  struct Options {
    int input = 0;
    int output = 1;
    /// Ctrl-a is the escape; else every byte goes to the guest.
    bool multiplexed = false;
    /// Ctrl-c, Ctrl-\ and Ctrl-z keep their meaning at this terminal; else they are the guest's.
    bool keep_signals = true;
    /// Ctrl-a x. Called on the loop's thread.
    std::function<void()> quit = {};
  };

  static Result<std::unique_ptr<StdioBackend>> create(EventLoop& loop, Options options);
  /// Sends what is kept, for at most a fraction of a second, then restores the terminal.
  ~StdioBackend() override;

  void write(std::span<const uint8_t> bytes) override;
  void accept_input() override;

 protected:
  void receiver_changed() override;

 private:
  StdioBackend(EventLoop& loop, Options options);
  Result<> open();
  void input_ready();
  void deliver();
  void output_ready();
  /// Writes from pending_; mutex_ held.
  void flush();
  void flush_before_end();
  /// Writes without blocking; 0 when the reader has no room. mutex_ held.
  size_t write_some(const uint8_t* bytes, size_t count);
  void watch_input(bool wanted);

  EventLoop& loop_;
  const Options options_;
  EscapeFilter escapes_;
  bool raw_terminal_ = false;
  bool input_watched_ = false;  // loop thread
  bool input_ended_ = false;    // loop thread
  std::deque<uint8_t> input_;   // typed, not yet taken; loop thread
  std::atomic<bool> deliver_posted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // loop thread

  std::mutex mutex_;
  std::vector<uint8_t> pending_;  // guarded by mutex_
  size_t sent_ = 0;               // of pending_; guarded by mutex_
  bool output_dead_ = false;      // guarded by mutex_
  bool output_watched_ = false;   // guarded by mutex_
  bool retry_armed_ = false;      // guarded by mutex_
  Timer retry_;                   // for outputs that epoll cannot watch
};

}  // namespace limen::device
