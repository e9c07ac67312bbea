// What a machine is doing, and why it ended or was reset, in QEMU's words.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace limen::machine {

enum class RunState : uint8_t {
  kPrelaunch,  ///< Not started yet, or reset while it stood still.
  kRunning,
  kPaused,
  kShutdown,       ///< The guest powered off, and the machine was told to stand still then.
  kGuestPanicked,  ///< The guest said that it cannot go on.
  kInternalError,  ///< The engine cannot go on.
  kIoError,        ///< A disk failed whose werror= or rerror= says stop.
  kDebug,          ///< A debugger holds it.
  kWatchdog,       ///< The guest did not feed its watchdog.
  kSuspended,      ///< The guest is in S3.
};
[[nodiscard]] std::string_view run_state_name(RunState state);
/// Nobody holds the machine: the guest runs, or would if it had not suspended itself.
[[nodiscard]] constexpr bool is_live(RunState state) {
  return state == RunState::kRunning || state == RunState::kSuspended;
}

/// The choices of -action watchdog=, in the order of Actions::Watchdog.
inline constexpr std::array<std::string_view, 7> kWatchdogActions = {
    "reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"};

/// Why a machine ends or is reset.
enum class Cause : uint8_t {
  kHostError,
  kQmpQuit,
  kQmpSystemReset,
  kSignal,
  kHostUi,
  kGuestShutdown,
  kGuestReset,
  kGuestPanic,
};
[[nodiscard]] std::string_view cause_name(Cause cause);
/// Whether it was the guest's doing.
[[nodiscard]] bool by_guest(Cause cause);

}  // namespace limen::machine
