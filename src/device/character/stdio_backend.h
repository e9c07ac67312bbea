// The person's terminal as a character back end.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "device/character/raw_terminal.h"
#include "device/character_backend.h"

namespace limen::device {

/// Standard input and output, or any other pair of descriptors. A terminal is held in raw mode.
///
/// Output goes out at once while the reader keeps up; what it does not take is kept, up to
/// kOutputLimit bytes, and sent when it can be; what the guest writes beyond that is dropped. A
/// reader that went away silences the output for good. SIGPIPE is ignored in the whole process. The
/// descriptors' own blocking mode is left alone, as other processes may share them.
///
/// Destroy on the loop's thread or after the loop's run() has returned.
class StdioBackend final : public CharacterBackend {
 public:
  static constexpr size_t kOutputLimit = size_t{1} << 20;
  static constexpr size_t kInputLimit = size_t{1} << 16;

  struct Options {
    int input = 0;
    int output = 1;
    /// At a terminal, Ctrl-c and the like raise signals; else they are the guest's.
    bool keep_signals = true;
  };

  static Result<std::unique_ptr<StdioBackend>> create(EventLoop& loop, Options options);
  /// Sends what is kept, for at most a fraction of a second, then restores the terminal.
  ~StdioBackend() override;

  void write(std::span<const uint8_t> bytes) override;
  void accept_input() override;
  [[nodiscard]] std::string filename() const override { return "stdio"; }
  [[nodiscard]] size_t pending_output() const override;
  void set_output_limit(size_t bytes) override { output_limit_ = bytes; }

 protected:
  void receiver_changed() override { accept_input(); }

 private:
  /// How a write to the output is kept from blocking.
  enum class Output { kNonBlocking, kSocket, kFile, kPoll };

  StdioBackend(EventLoop& loop, Options options);
  Result<> open();
  Result<> open_output();

  // On the loop's thread.
  void input_ready();
  void deliver();
  void watch_input(bool wanted);
  void output_ready();

  // mutex_ held.
  void flush();
  /// Bytes written without waiting; 0 when the reader has no room.
  size_t write_some(const uint8_t* bytes, size_t count);
  void watch_output();

  EventLoop& loop_;
  const Options options_;
  std::unique_ptr<RawTerminal> terminal_;

  // On the loop's thread.
  bool input_pollable_ = true;
  bool input_watched_ = false;
  bool input_ended_ = false;
  std::vector<uint8_t> input_;  // typed, not yet taken

  std::atomic<bool> deliver_posted_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  std::atomic<size_t> output_limit_ = kOutputLimit;

  mutable std::mutex mutex_;
  UniqueFd output_;
  Output output_kind_ = Output::kPoll;
  std::vector<uint8_t> pending_;  // guarded by mutex_, as the rest
  size_t sent_ = 0;               // of pending_
  bool output_dead_ = false;
  bool output_watched_ = false;
};

}  // namespace limen::device
