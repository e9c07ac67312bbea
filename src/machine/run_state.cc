#include "machine/run_state.h"

namespace limen::machine {

std::string_view run_state_name(RunState state) {
  switch (state) {
    case RunState::kPrelaunch:
      return "prelaunch";
    case RunState::kRunning:
      return "running";
    case RunState::kPaused:
      return "paused";
    case RunState::kShutdown:
      return "shutdown";
    case RunState::kGuestPanicked:
      return "guest-panicked";
    case RunState::kInternalError:
      return "internal-error";
    case RunState::kIoError:
      return "io-error";
    case RunState::kDebug:
      return "debug";
    case RunState::kWatchdog:
      return "watchdog";
    case RunState::kSuspended:
      return "suspended";
  }
  return "";
}

std::string_view cause_name(Cause cause) {
  switch (cause) {
    case Cause::kHostError:
      return "host-error";
    case Cause::kQmpQuit:
      return "host-qmp-quit";
    case Cause::kQmpSystemReset:
      return "host-qmp-system-reset";
    case Cause::kSignal:
      return "host-signal";
    case Cause::kHostUi:
      return "host-ui";
    case Cause::kGuestShutdown:
      return "guest-shutdown";
    case Cause::kGuestReset:
      return "guest-reset";
    case Cause::kGuestPanic:
      return "guest-panic";
  }
  return "";
}

bool by_guest(Cause cause) { return cause >= Cause::kGuestShutdown; }

}  // namespace limen::machine
