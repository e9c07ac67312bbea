// Breakpoints, going on, and what is said of a stop.
#include <fmt/format.h>

#include <algorithm>

#include "gdb/session.h"

namespace limen::gdb {
namespace {

constexpr unsigned kInvalidArgument = 22, kNoSpace = 28;

/// More of either kind is a mistake, or malice.
constexpr size_t kMostBreakpoints = 4096, kMostWatchpoints = 32;

std::string_view stop_reason(vcpu::WatchKind kind) {
  switch (kind) {
    case vcpu::WatchKind::kRead:
      return "rwatch";
    case vcpu::WatchKind::kAccess:
      return "awatch";
    case vcpu::WatchKind::kWrite:
      break;
  }
  return "watch";
}

/// Puts it in once, or takes it out. False: there is no room.
template <typename T>
bool change(std::vector<T>& all, const T& one, bool insert, size_t most) {
  const auto found = std::ranges::find(all, one);
  if (!insert) {
    if (found != all.end()) all.erase(found);
    return true;
  }
  if (found != all.end()) return true;
  if (all.size() == most) return false;
  all.push_back(one);
  return true;
}

}  // namespace

void Session::change_stop(std::string_view text, bool insert) {
  const auto type = take_hex(text);
  if (!type || !take(text, ",")) return reply_error(kInvalidArgument);
  const auto address = take_hex(text);
  if (!address || !take(text, ",")) return reply_error(kInvalidArgument);
  const auto size = take_hex(text);
  if (!size) return reply_error(kInvalidArgument);
  using vcpu::WatchKind;
  const auto change_watch = [&](WatchKind kind) {
    // A range must not go past the end of all addresses.
    if (*size == 0 || *address + (*size - 1) < *address) return reply_error(kInvalidArgument);
    const vcpu::Watchpoint watchpoint{.address = *address, .size = *size, .kind = kind};
    if (!change(stops_.watchpoints, watchpoint, insert, kMostWatchpoints))
      return reply_error(kNoSpace);
    reply_ok();
  };
  switch (*type) {
    case 0:
    case 1: {
      auto& all = *type == 0 ? stops_.breakpoints : stops_.hardware_breakpoints;
      if (!change(all, *address, insert, kMostBreakpoints)) return reply_error(kNoSpace);
      return reply_ok();
    }
    case 2:
      return change_watch(WatchKind::kWrite);
    case 3:
      return change_watch(WatchKind::kRead);
    case 4:
      return change_watch(WatchKind::kAccess);
    default:
      return reply("");
  }
}

void Session::step_or_continue(std::string_view text, Action action, bool with_signal) {
  if (with_signal) {
    if (!take_hex(text)) return reply_error(kInvalidArgument);
    if (!text.empty() && !take(text, ";")) return reply_error(kInvalidArgument);
  }
  const unsigned processor = continue_all_ ? selected_ : continue_;
  if (!text.empty()) {
    const auto address = take_hex(text);
    if (!address) return reply_error(kInvalidArgument);
    RegisterFile file = target_.registers(processor);
    file.cpu.rip = *address;
    target_.set_registers(processor, file);
  }
  // The others go on meanwhile unless one was chosen.
  std::vector<Action> actions(target_.processor_count(),
                              continue_all_ ? Action::kContinue : Action::kStand);
  actions[processor] = action;
  resume(actions);
}

void Session::resume_by_thread(std::string_view text) {
  std::vector<Action> actions(target_.processor_count(), Action::kStand);
  std::vector<bool> chosen(actions.size(), false);
  while (take(text, ";")) {
    if (text.empty()) return reply_error(kInvalidArgument);
    const char command = text.front();
    text.remove_prefix(1);
    Action action = Action::kContinue;
    switch (command) {
      case 'C':
      case 'S':
        if (!take_hex(text)) return reply_error(kInvalidArgument);  // a signal: guests have none
        action = command == 'S' ? Action::kStep : Action::kContinue;
        break;
      case 'c':
        break;
      case 's':
        action = Action::kStep;
        break;
      case 't':
        action = Action::kStand;
        break;
      default:
        return reply_error(kInvalidArgument);
    }
    ThreadId id{.process = ThreadId::kAll, .thread = ThreadId::kAll};
    if (take(text, ":")) {
      const auto named = take_thread(text);
      if (!named) return reply_error(kInvalidArgument);
      id = *named;
    }
    // The first one that names a thread holds.
    for (unsigned i = 0; i < actions.size(); ++i)
      if (!chosen[i] && matches(id, i)) {
        chosen[i] = true;
        actions[i] = action;
      }
  }
  if (!text.empty() ||
      std::ranges::count(actions, Action::kStand) == static_cast<std::ptrdiff_t>(actions.size()))
    return reply_error(kInvalidArgument);
  resume(actions);
}

void Session::resume(std::span<const Action> actions) {
  waiting_ = true;
  while (!pending_.empty()) {
    const auto [processor, stop] = pending_.front();
    pending_.erase(pending_.begin());
    if (is_watched(stop)) return report(processor, stop);
  }
  constexpr unsigned kNoIrq = 2;
  const auto resumed = target_.resume(actions, stops_, (step_bits_ & kNoIrq) != 0);
  if (resumed && target_.running()) return;
  // What cannot go on stopped at once.
  if (waiting_) report_signal(Signal::kAbort);
}

bool Session::is_watched(const vcpu::DebugStop& stop) const {
  return std::ranges::any_of(stops_.watchpoints, [&](const vcpu::Watchpoint& watchpoint) {
    return watchpoint.address == stop.address && watchpoint.kind == stop.watch;
  });
}

std::string Session::stop_reply(Signal signal, const vcpu::DebugStop* stop) const {
  std::string text =
      fmt::format("T{:02x}thread:{};", static_cast<unsigned>(signal), thread_name(selected_));
  if (stop == nullptr) return text;
  using Cause = vcpu::DebugStop::Cause;
  if (stop->cause == Cause::kWatchpoint)
    return text + fmt::format("{}:{:x};", stop_reason(stop->watch), stop->address);
  if (stop->cause == Cause::kBreakpoint) {
    const bool software =
        std::ranges::find(stops_.breakpoints, stop->address) != stops_.breakpoints.end();
    if (software && swbreak_) return text + "swbreak:;";
    if (!software && hwbreak_) return text + "hwbreak:;";
  }
  return text;
}

void Session::report(unsigned processor, const vcpu::DebugStop& stop) {
  selected_ = processor;
  continue_ = processor;
  waiting_ = false;
  reply(stop_reply(Signal::kTrap, &stop));
}

void Session::report_signal(Signal signal) {
  waiting_ = false;
  reply(stop_reply(signal));
}

void Session::debug_stopped(unsigned processor, const vcpu::DebugStop& stop) {
  if (waiting_) return report(processor, stop);
  // Another processor was first. A breakpoint is met again; what was watched is over.
  constexpr size_t kMostPending = 64;
  if (stop.cause == vcpu::DebugStop::Cause::kWatchpoint && pending_.size() < kMostPending)
    pending_.emplace_back(processor, stop);
}

void Session::run_state_changed(machine::RunState state) {
  using machine::RunState;
  if (!waiting_) return;
  switch (state) {
    case RunState::kRunning:
    case RunState::kSuspended:
    case RunState::kDebug:  // debug_stopped() says more
      return;
    case RunState::kShutdown:
      return report_signal(Signal::kQuit);
    case RunState::kIoError:
      return report_signal(Signal::kIo);
    case RunState::kGuestPanicked:
    case RunState::kInternalError:
      return report_signal(Signal::kAbort);
    case RunState::kWatchdog:
      return report_signal(Signal::kAlarm);
    case RunState::kPrelaunch:
    case RunState::kPaused:
      return report_signal(Signal::kInterrupt);
  }
}

void Session::ending(int status) {
  if (std::exchange(ended_, true)) return;
  reply(fmt::format("W{:02x}", static_cast<unsigned>(status) & 0xFF));
}

void Session::forget_stops() {
  stops_ = {};
  pending_.clear();
}

void Session::detach() {
  reply_ok();
  open_ = false;
  ended_ = true;
  forget_stops();
  target_.let_go();
}

}  // namespace limen::gdb
