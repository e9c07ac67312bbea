// Events of the machine's parts, written down as they happen if somebody asked: QEMU's -trace.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace limen::trace {

/// One kind of event, by the name that QEMU has for it. A constant with static storage in the file
/// that it happens in; asking whether it is on costs a load.
class Event {
 public:
  explicit Event(std::string_view name);
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] bool on() const { return on_.load(std::memory_order_relaxed); }
  void switch_to(bool on) { on_.store(on, std::memory_order_relaxed); }

  /// Writes `PID@SECONDS.MICROSECONDS:NAME text` as one line. From any thread.
  template <typename... Arguments>
  void operator()(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
    if (on()) write(fmt::format(format, std::forward<Arguments>(arguments)...));
  }

 private:
  void write(std::string_view text) const;

  const std::string_view name_;
  std::atomic<bool> on_ = false;
};

/// All events of the program, by name.
[[nodiscard]] std::vector<Event*> events();
/// Switches those that `pattern` names ('*' stands for any text) on, or off with '-' in front.
/// Returns how many.
size_t choose(std::string_view pattern);
/// Lines go to this file from now on; before, they go to standard error.
Result<> write_to(const std::string& path);

}  // namespace limen::trace
