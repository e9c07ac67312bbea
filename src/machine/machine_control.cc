// The life of a machine: what starts, stops, resets and ends it.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/log.h"
#include "machine/machine.h"

namespace limen::machine {
namespace {

nlohmann::json cause_data(Cause cause) {
  return {{"guest", by_guest(cause)}, {"reason", cause_name(cause)}};
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

void Machine::stop_now(RunState reason) {
  pause();
  if (run_state_ != RunState::kRunning) return;
  run_state_ = reason;
  events_->emit("STOP");
}

Result<> Machine::cont() {
  if (board_ == nullptr) return {};
  if (run_state_ == RunState::kInternalError || run_state_ == RunState::kShutdown)
    return fail("Resetting the Virtual Machine is required");
  if (run_state_ == RunState::kRunning) {
    // Whoever waits for the event gets it, as from QEMU.
    events_->emit("STOP");
    events_->emit("RESUME");
    return {};
  }
  run_state_ = RunState::kRunning;
  events_->emit("RESUME");
  resume();
  return {};
}

void Machine::with_processors_held(const std::function<void()>& work) {
  pause();
  work();
  // One that something else has stopped meanwhile is stopped again by what that posted.
  if (run_state_ == RunState::kRunning && !event_raised_) resume();
}

void Machine::power_down() {
  events_->emit("POWERDOWN");
  if (board_ != nullptr) board_->press_power_button();
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
  events_->emit("RESET", cause_data(cause));
  if (run_state_ == RunState::kRunning)
    resume();
  else
    run_state_ = RunState::kPrelaunch;
}

void Machine::shut_down(Cause cause, Result<int> outcome) {
  events_->emit("SHUTDOWN", cause_data(cause));
  if (actions_.shutdown == Actions::Shutdown::kPowerOff) return end(std::move(outcome));
  stop_now(RunState::kShutdown);
  event_raised_ = false;
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
    case What::kExit:
      return end(occurrence.status);
    case What::kInternalError: {
      std::fputs(report(fmt::format("limen: the engine cannot go on: {}", occurrence.detail),
                        occurrence.vcpu)
                     .c_str(),
                 stderr);
      // With someone to see it, the machine stays to be looked at, as QEMU's does.
      for (const auto& monitor : description_.monitors)
        if (monitor.control) {
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
