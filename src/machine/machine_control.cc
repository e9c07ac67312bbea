// The life of a machine: what starts, stops, resets and ends it.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "base/log.h"
#include "device/acpi_pm.h"
#include "machine/device_catalog.h"
#include "machine/machine.h"

namespace limen::machine {
namespace {

nlohmann::json cause_data(Cause cause) {
  return {{"guest", by_guest(cause)}, {"reason", cause_name(cause)}};
}

/// There is a debugger or a monitor to look at a machine through that stands still. On a standard
/// input that is no terminal there is nobody, and what started the machine waits for its end.
bool is_watched(const MachineDescription& description) {
  const auto unattended = [&](const MonitorDescription& monitor) {
    const auto character =
        std::ranges::find(description.characters, monitor.character, &CharacterDescription::id);
    return !monitor.control && character != description.characters.end() &&
           character->kind == CharacterDescription::Kind::kStdio && ::isatty(STDIN_FILENO) == 0;
  };
  return !description.gdb.empty() || !std::ranges::all_of(description.monitors, unattended);
}

}  // namespace

void Machine::quit(Cause cause) {
  loop_->post([this, cause] {
    if (outcome_) return;
    events_->emit("SHUTDOWN", cause_data(cause));
    end(0);
  });
}

void Machine::stop(RunState reason) {
  if (std::this_thread::get_id() == loop_thread_) return stop_now(reason);
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  loop_->post([this, reason] { stop_now(reason); });
}

void Machine::change_state(RunState state) {
  const RunState before = std::exchange(run_state_, state);
  if (before == state) return;
  if (board_ != nullptr && board_->network() != nullptr)
    board_->network()->set_running(is_live(state));
  if (is_live(before) && !is_live(state)) events_->emit("STOP");
  if (!is_live(before) && is_live(state)) events_->emit("RESUME");
  if (debug_observer_ != nullptr) debug_observer_->run_state_changed(state);
}

void Machine::stop_now(RunState reason) {
  pause();
  if (is_live(run_state_)) change_state(reason);
}

Result<> Machine::cont() {
  if (run_state_ == RunState::kSuspended) return {};  // until something wakes it
  if (run_state_ == RunState::kRunning) {
    // Whoever waits for the event gets it, as from QEMU.
    events_->emit("STOP");
    events_->emit("RESUME");
  }
  std::vector<unsigned> all(vcpus_.size());
  std::iota(all.begin(), all.end(), 0u);
  return cont_some(all);
}

Result<> Machine::cont_some(std::span<const unsigned> indices) {
  if (board_ == nullptr) return {};
  if (run_state_ == RunState::kInternalError || run_state_ == RunState::kShutdown)
    return fail("Resetting the Virtual Machine is required");
  resumptions_.fetch_add(1);
  board_->retry_disks();
  resumed_.assign(indices.begin(), indices.end());
  change_state(suspended_ ? RunState::kSuspended : RunState::kRunning);
  if (suspended_) {
    if (board_->acpi_pm().woken()) woken();
    return {};
  }
  // Something that happened to the machine holds them: handle() resumes them.
  if (!event_raised_) resume();
  return {};
}

void Machine::with_processors_held(const std::function<void()>& work) {
  pause();
  work();
  // One that something else has stopped meanwhile is stopped again by what that posted.
  if (run_state_ == RunState::kRunning && !event_raised_) resume();
}

void Machine::stopped_for_debugger(unsigned vcpu, const vcpu::DebugStop& stop) {
  const uint64_t resumptions = resumptions_.load();
  for (auto& other : vcpus_) other->request_pause();
  loop_->post([this, vcpu, stop, resumptions] {
    const bool running = run_state_ == RunState::kRunning;
    // If it went on meanwhile it comes to a breakpoint once more. What was watched has happened.
    if ((!running || resumptions != resumptions_.load()) &&
        stop.cause != vcpu::DebugStop::Cause::kWatchpoint) {
      if (running && !event_raised_) resume();
      return;
    }
    pause();
    if (running) change_state(RunState::kDebug);
    if (debug_observer_ != nullptr) debug_observer_->debug_stopped(vcpu, stop);
  });
}

Result<> Machine::plug(const DeviceDescription& description) {
  if (board_ == nullptr) return fail("machine 'none' takes no devices");
  Result<> outcome;
  with_processors_held([&] { outcome = board_->plug(description); });
  if (outcome) devices_.push_back(description);
  return outcome;
}

void Machine::removed(const std::string& port, const std::string& id) {
  const auto bus_of = [](const DeviceDescription& device) {
    return DeviceProperties(device).text("bus");
  };
  const auto gone = std::ranges::find(devices_, port, bus_of);
  if (gone == devices_.end()) return;
  nlohmann::json data = {{"path", id.empty() ? fmt::format("/machine/peripheral-anon/device[{}]",
                                                           gone - devices_.begin())
                                             : "/machine/peripheral/" + id}};
  if (!id.empty()) data["device"] = id;
  devices_.erase(gone);
  // And what was plugged into a bus of its own.
  if (!id.empty())
    std::erase_if(devices_, [&](const auto& device) { return bus_of(device) == id + ".0"; });
  events_->emit("DEVICE_DELETED", data);
}

void Machine::removed(const std::string& id) {
  std::erase_if(devices_, [&](const DeviceDescription& device) {
    return DeviceProperties(device).text("id") == id;
  });
  events_->emit("DEVICE_DELETED",
                nlohmann::json{{"device", id}, {"path", "/machine/peripheral/" + id}});
}

Result<> Machine::add_netdev(const net::BackendDescription& backend) {
  if (board_ == nullptr) return fail("machine 'none' has no network");
  return board_->add_netdev(backend);
}

Result<> Machine::remove_netdev(const std::string& id) {
  auto* network = board_ == nullptr ? nullptr : board_->network();
  if (network == nullptr) return fail("Device '{}' not found", id);
  for (const auto& each : network->list())
    if (each.card && each.id == id) return fail("Device '{}' is not a netdev", id);
  return network->remove(id);
}

Result<> Machine::request_unplug(const std::string& id) {
  if (board_ == nullptr) return fail("Device '{}' not found", id);
  Result<> outcome;
  with_processors_held([&] { outcome = board_->request_unplug(id); });
  return outcome;
}

void Machine::power_down() {
  events_->emit("POWERDOWN");
  if (board_ != nullptr) board_->press_power_button();
}

bool Machine::can_suspend() { return board_ != nullptr && board_->acpi_pm().can_suspend(); }

Result<> Machine::wake_up() {
  if (!can_suspend()) return fail("wake-up from suspend is not supported by this guest");
  if (run_state_ != RunState::kSuspended)
    return fail("Unable to wake up: guest is not in suspended state");
  board_->acpi_pm().wake_up();
  woken();
  return {};
}

void Machine::suspended() {
  event_raised_ = false;
  suspended_ = true;
  if (run_state_ == RunState::kRunning) change_state(RunState::kSuspended);
  events_->emit("SUSPEND");
  // Perhaps before it was asleep.
  if (board_->acpi_pm().woken()) woken();
}

void Machine::woken() {
  // While it stands still nothing happens: cont() looks again.
  if (run_state_ != RunState::kSuspended) return;
  suspended_ = false;
  const auto resumed = resume_parts();
  change_state(RunState::kRunning);
  if (!resumed) {
    log::warning("no way back from suspend to RAM: {}; resetting", resumed.error().message);
    return handle({What::kReset});
  }
  events_->emit("WAKEUP");
  resume();
}

void Machine::system_reset(Cause cause) {
  if (board_ == nullptr) return;
  pause();
  if (actions_.reboot == Actions::Reboot::kShutdown) return shut_down(cause, 0);
  reset_now(cause);
}

void Machine::reset_now(Cause cause) {
  if (auto started = power_on(); !started) return end(std::unexpected(std::move(started).error()));
  event_raised_ = false;
  suspended_ = false;
  events_->emit("RESET", cause_data(cause));
  if (run_state_ == RunState::kSuspended) {
    change_state(RunState::kRunning);
    events_->emit("WAKEUP");
  }
  if (run_state_ == RunState::kRunning)
    resume();
  else
    change_state(RunState::kPrelaunch);
}

void Machine::shut_down(Cause cause, Result<int> outcome) {
  events_->emit("SHUTDOWN", cause_data(cause));
  if (actions_.shutdown == Actions::Shutdown::kPowerOff) return end(std::move(outcome));
  stop_now(RunState::kShutdown);
  event_raised_ = false;
}

void Machine::panicked() {
  using Panic = Actions::Panic;
  log::warning("the guest panicked");
  const bool goes_on = actions_.panic == Panic::kNone;
  events_->emit("GUEST_PANICKED", nlohmann::json{{"action", goes_on ? "run" : "pause"}});
  event_raised_ = false;
  if (goes_on) return resume();
  stop_now(RunState::kGuestPanicked);
  if (actions_.panic == Panic::kPause) return;
  events_->emit("GUEST_PANICKED", nlohmann::json{{"action", "poweroff"}});
  shut_down(Cause::kGuestPanic, actions_.panic == Panic::kExitFailure ? 1 : 0);
}

void Machine::watchdog_expired() {
  using Watchdog = Actions::Watchdog;
  const auto action = actions_.watchdog;
  events_->emit("WATCHDOG",
                nlohmann::json{{"action", kWatchdogActions.at(static_cast<size_t>(action))}});
  switch (action) {
    case Watchdog::kReset:
      return raise({What::kReset});
    case Watchdog::kShutdown:
      return power_down();
    case Watchdog::kPowerOff:
      return quit(Cause::kGuestShutdown);
    case Watchdog::kPause:
      return stop_now(RunState::kWatchdog);
    case Watchdog::kDebug:
      return log::warning("watchdog: timer fired");
    case Watchdog::kInjectNmi:
      return board_->inject_nmi();
    case Watchdog::kNone:
      return;
  }
}

void Machine::raise(Occurrence occurrence) {
  if (event_raised_.exchange(true)) return;
  // The guest executes nothing more than what is under way.
  for (auto& vcpu : vcpus_) vcpu->request_pause();
  loop_->post([this, occurrence = std::move(occurrence)] { handle(occurrence); });
}

void Machine::handle(const Occurrence& occurrence) {
  pause();
  switch (occurrence.what) {
    case What::kPowerOff:
      return shut_down(Cause::kGuestShutdown, 0);
    case What::kSuspend:
      return suspended();
    case What::kHibernate:
      events_->emit("SUSPEND_DISK");
      return shut_down(Cause::kGuestShutdown, 0);
    case What::kPanicked:
      return panicked();
    case What::kExit:
      return end(occurrence.status);
    case What::kInternalError: {
      std::fputs(report(fmt::format("limen: the engine cannot go on: {}", occurrence.detail),
                        occurrence.vcpu)
                     .c_str(),
                 stderr);
      // With someone to look at it, the machine stays, as QEMU's does.
      if (is_watched(description_)) {
        stop_now(RunState::kInternalError);
        event_raised_ = false;
        return;
      }
      return end(fail("internal error: {}", occurrence.detail));
    }
    case What::kTripleFault:
      if (actions_.reboot == Actions::Reboot::kShutdown) {
        std::fputs(report("limen: the guest triple-faulted", occurrence.vcpu).c_str(), stderr);
        return shut_down(Cause::kGuestReset, fail("the guest triple-faulted at rip {:#x}",
                                                  vcpus_[occurrence.vcpu]->vcpu().state().rip));
      }
      log::info("the guest triple-faulted; resetting");
      return reset_now(Cause::kGuestReset);
    case What::kReset:
      if (actions_.reboot == Actions::Reboot::kShutdown) return shut_down(Cause::kGuestReset, 0);
      return reset_now(Cause::kGuestReset);
  }
}

}  // namespace limen::machine
