// What the page asks of the machine.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace limen::web {

enum class Command : uint8_t {
  kPause,
  kResume,
  kPowerDown,  ///< Presses the power button.
  kReset,
  kQuit,
};
[[nodiscard]] std::string_view command_name(Command command);

inline constexpr size_t kLongestCommand = 4096;
/// A message of the control channel: {"command": "pause"}. Fails for anything else.
Result<Command> parse_command(std::string_view message);

}  // namespace limen::web
