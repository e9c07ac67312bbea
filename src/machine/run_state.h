// Whether a machine's guest runs, and why not: QEMU's RunState, by its names.
#pragma once

#include <cstdint>
#include <string_view>

namespace limen::machine {

enum class RunState : uint8_t {
  kPrelaunch,  ///< Has not run yet (-S).
  kRunning,
  kPaused,         ///< A person stopped it.
  kDebug,          ///< A debugger's breakpoint, watchpoint or step.
  kShutdown,       ///< The guest powered off (-no-shutdown).
  kGuestPanicked,  ///< The guest's kernel gave up, by pvpanic (-no-shutdown).
  kInternalError,
  kIoError,  ///< A disk failed whose werror= or rerror= says stop.
};

[[nodiscard]] constexpr std::string_view name(RunState state) {
  switch (state) {
    case RunState::kPrelaunch:
      return "prelaunch";
    case RunState::kRunning:
      return "running";
    case RunState::kPaused:
      return "paused";
    case RunState::kDebug:
      return "debug";
    case RunState::kShutdown:
      return "shutdown";
    case RunState::kGuestPanicked:
      return "guest-panicked";
    case RunState::kInternalError:
      return "internal-error";
    case RunState::kIoError:
      return "io-error";
  }
  return "";
}

}  // namespace limen::machine
