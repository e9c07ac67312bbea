// Several front ends on one character back end: QEMU's mux=on.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "device/character/escape_filter.h"
#include "device/character_backend.h"

namespace limen::device {

/// What is typed goes to one front end at a time, and Ctrl-a c moves on to the next; what front
/// ends write all goes out. The escape commands work however full a front end is: it goes on
/// reading and drops what a front end leaves over beyond kInputLimit bytes.
class Multiplexer {
 public:
  static constexpr size_t kInputLimit = size_t{1} << 16;
  static constexpr size_t kMostFrontEnds = 4;  // as QEMU

  struct Callbacks {
    std::function<void()> quit;  ///< Ctrl-a x.
    std::function<void()> save;  ///< Ctrl-a s.
  };

  Multiplexer(EventLoop& loop, std::unique_ptr<CharacterBackend> backend, Callbacks callbacks);
  ~Multiplexer();
  Multiplexer(const Multiplexer&) = delete;
  Multiplexer& operator=(const Multiplexer&) = delete;

  /// A new front end's side; null when all are taken. The first one has the keyboard.
  CharacterBackend* add_front_end();
  /// A break condition for the front end that has the keyboard.
  void send_break();
  [[nodiscard]] CharacterBackend& backend() { return *backend_; }
  [[nodiscard]] size_t front_ends() const { return ports_.size(); }

 private:
  class Port;

  void receive(std::span<const uint8_t> bytes);
  void deliver(Port& port);
  void focus_next();
  void write(std::span<const uint8_t> bytes);
  [[nodiscard]] std::string timestamp() const;

  EventLoop& loop_;
  std::unique_ptr<CharacterBackend> backend_;
  EscapeFilter escapes_;
  std::vector<std::unique_ptr<Port>> ports_;
  size_t focus_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);

  std::mutex mutex_;  // of the output
  bool timestamps_ = false;
  bool line_start_ = true;
  Clock::time_point timestamps_begin_;
};

}  // namespace limen::device
