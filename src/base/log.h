// Messages to the person who runs the machine, on standard error.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace limen::log {

enum class Level { kDebug, kInfo, kWarning, kError };

/// Messages below this level are dropped. Default: kWarning.
void set_level(Level level);
[[nodiscard]] bool enabled(Level level);
/// QEMU's -msg timestamp=on: every line begins with the time. Default: no.
void set_timestamps(bool on);
/// What a line begins with then, as in "2026-01-31T12:00:00.000000Z "; else nothing.
[[nodiscard]] std::string timestamp();
/// Writes `limen: <level>: <message>` as one line.
void write(Level level, std::string_view message);

template <typename... Arguments>
void debug(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (enabled(Level::kDebug))
    write(Level::kDebug, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <typename... Arguments>
void info(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (enabled(Level::kInfo))
    write(Level::kInfo, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <typename... Arguments>
void warning(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (enabled(Level::kWarning))
    write(Level::kWarning, fmt::format(format, std::forward<Arguments>(arguments)...));
}
template <typename... Arguments>
void error(fmt::format_string<Arguments...> format, Arguments&&... arguments) {
  if (enabled(Level::kError))
    write(Level::kError, fmt::format(format, std::forward<Arguments>(arguments)...));
}

}  // namespace limen::log
