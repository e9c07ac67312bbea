// Keys of a keyboard by the names that QEMU's monitors take, and typing them.
#pragma once

#include <chrono>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_loop.h"
#include "base/result.h"
#include "display/input.h"

namespace limen::monitor {

/// Names such as "ctrl", "alt", "f1", "a", "ret", or the scan code in hexadecimal with 0x before
/// it.
Result<display::KeyCode> key_of_name(std::string_view name);
Result<std::vector<display::KeyCode>> keys_of_names(std::span<const std::string> names);
/// The names, for completion.
[[nodiscard]] std::vector<std::string_view> key_names();

/// Types for the monitors, at a person's speed. On the loop's thread.
class KeyTypist {
 public:
  KeyTypist(EventLoop& loop, display::Input& input);

  /// Presses the keys one after the other and lets them go in reverse, with a pause behind each
  /// step, once what was asked for before is done.
  Result<> type(std::span<const display::KeyCode> keys, std::chrono::milliseconds hold);

 private:
  struct Stroke {
    display::KeyCode key;
    bool down;
    std::chrono::milliseconds hold;
  };
  static constexpr size_t kMostStrokes = 1024;  // as QEMU
  void go_on();

  EventLoop& loop_;
  display::Input& input_;
  std::deque<Stroke> strokes_;
  bool pausing_ = false;  ///< The first of `strokes_` was carried out, and its pause runs.
  Timer timer_;
};

}  // namespace limen::monitor
