// What a machine does: going on, standing still, resetting, ending.
#include <algorithm>
#include <string>

#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kLifecycleSchema = R"(
enum RunState { debug, inmigrate, internal-error, io-error, paused, postmigrate, prelaunch,
  finish-migrate, restore-vm, running, save-vm, shutdown, suspended, watchdog, guest-panicked, colo }
struct StatusInfo { running: bool, singlestep: bool, status: RunState }
command query-status -> StatusInfo [oob]
command stop
command cont
command system_reset
command system_powerdown
command system_wakeup
struct CurrentMachineParams { wakeup-suspend-support: bool }
command query-current-machine -> CurrentMachineParams
command quit

enum RebootAction { reset, shutdown }
enum ShutdownAction { poweroff, pause }
enum PanicAction { pause, shutdown, exit-failure, none }
enum WatchdogAction { reset, shutdown, poweroff, pause, debug, none, inject-nmi }
command set-action { *reboot: RebootAction, *shutdown: ShutdownAction, *panic: PanicAction,
  *watchdog: WatchdogAction }
command watchdog-set-action { action: WatchdogAction }

command inject-nmi

enum ShutdownCause { none, host-error, host-qmp-quit, host-qmp-system-reset, host-signal, host-ui,
  guest-shutdown, guest-reset, guest-panic, subsystem-reset, snapshot-load }
enum GuestPanicAction { pause, poweroff, run }
event GUEST_PANICKED { action: GuestPanicAction }
event WATCHDOG { action: WatchdogAction }
event SHUTDOWN { guest: bool, reason: ShutdownCause }
event RESET { guest: bool, reason: ShutdownCause }
event RTC_CHANGE { offset: int, qom-path: str }
event POWERDOWN {}
event SUSPEND {}
event SUSPEND_DISK {}
event WAKEUP {}
event STOP {}
event RESUME {}
)";

using machine::Actions;

Reply query_status(Context& context, const Json&) {
  const auto state = context.machine.run_state();
  return Json{{"running", state == machine::RunState::kRunning},
              {"singlestep", false},
              {"status", machine::run_state_name(state)}};
}

Reply stop(Context& context, const Json&) {
  context.machine.stop(machine::RunState::kPaused);
  return nothing();
}

Reply cont(Context& context, const Json&) {
  if (auto going = context.machine.cont(); !going)
    return std::unexpected(Failure(std::move(going).error()));
  return nothing();
}

Reply system_reset(Context& context, const Json&) {
  context.machine.system_reset(machine::Cause::kQmpSystemReset);
  return nothing();
}

Reply system_powerdown(Context& context, const Json&) {
  context.machine.power_down();
  return nothing();
}

Reply system_wakeup(Context& context, const Json&) {
  if (auto woken = context.machine.wake_up(); !woken)
    return std::unexpected(Failure(std::move(woken).error()));
  return nothing();
}

Reply query_current_machine(Context& context, const Json&) {
  return Json{{"wakeup-suspend-support", context.machine.can_suspend()}};
}

Reply quit(Context& context, const Json&) {
  context.machine.quit(machine::Cause::kQmpQuit);
  return nothing();
}

void set_watchdog(Context& context, const std::string& action) {
  const auto& actions = machine::kWatchdogActions;
  context.machine.actions().watchdog =
      static_cast<Actions::Watchdog>(std::ranges::find(actions, action) - actions.begin());
}

Reply watchdog_set_action(Context& context, const Json& arguments) {
  set_watchdog(context, arguments.at("action").get<std::string>());
  return nothing();
}

Reply set_action(Context& context, const Json& arguments) {
  auto& actions = context.machine.actions();
  if (const auto reboot = arguments.find("reboot"); reboot != arguments.end())
    actions.reboot = *reboot == "reset" ? Actions::Reboot::kReset : Actions::Reboot::kShutdown;
  if (const auto shutdown = arguments.find("shutdown"); shutdown != arguments.end())
    actions.shutdown =
        *shutdown == "poweroff" ? Actions::Shutdown::kPowerOff : Actions::Shutdown::kPause;
  if (const auto panic = arguments.find("panic"); panic != arguments.end())
    actions.panic = *panic == "pause"          ? Actions::Panic::kPause
                    : *panic == "shutdown"     ? Actions::Panic::kShutdown
                    : *panic == "exit-failure" ? Actions::Panic::kExitFailure
                                               : Actions::Panic::kNone;
  if (const auto watchdog = arguments.find("watchdog"); watchdog != arguments.end())
    set_watchdog(context, watchdog->get<std::string>());
  return nothing();
}

Reply inject_nmi(Context& context, const Json&) {
  auto* board = context.machine.board();
  if (board == nullptr) return failure("GenericError", "machine does not provide NMIs");
  board->inject_nmi();
  return nothing();
}

}  // namespace

CommandGroup lifecycle_commands() {
  return {kLifecycleSchema,
          {{"query-status", query_status},
           {"stop", stop},
           {"cont", cont},
           {"system_reset", system_reset},
           {"system_powerdown", system_powerdown},
           {"system_wakeup", system_wakeup},
           {"query-current-machine", query_current_machine},
           {"quit", quit},
           {"set-action", set_action},
           {"watchdog-set-action", watchdog_set_action},
           {"inject-nmi", inject_nmi}}};
}

}  // namespace limen::monitor
