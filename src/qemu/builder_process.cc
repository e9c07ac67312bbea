// Options for the machine's life and for the process around it.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "base/fd_sets.h"
#include "base/nearest.h"
#include "machine/device_catalog.h"
#include "machine/run_state.h"
#include "qemu/builder.h"
#include "qemu/configuration_file.h"
#include "qemu/key_values.h"

namespace limen::qemu {

Result<> Builder::start_paused(const std::string&) {
  result_.machine.start_paused = true;
  return {};
}

Result<> Builder::uuid(const std::string& argument) {
  constexpr std::string_view kForm = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  bool valid = argument.size() == kForm.size();
  std::string uuid;
  for (size_t i = 0; valid && i < kForm.size(); ++i) {
    const auto c = static_cast<unsigned char>(argument[i]);
    valid = kForm[i] == '-' ? c == '-' : std::isxdigit(c) != 0;
    uuid += static_cast<char>(std::tolower(c));
  }
  if (!valid) return fail("failed to parse UUID string: wrong format; write {}", kForm);
  result_.machine.uuid = uuid;
  return {};
}

Result<> Builder::action(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  constexpr std::array<std::string_view, 4> kKnown = {"reboot", "shutdown", "panic", "watchdog"};
  constexpr std::array<std::string_view, 2> kReboots = {"reset", "shutdown"};
  constexpr std::array<std::string_view, 2> kShutdowns = {"poweroff", "pause"};
  constexpr std::array<std::string_view, 4> kPanics = {"shutdown", "pause", "exit-failure", "none"};
  LIMEN_TRY(values.check(kKnown));
  using machine::Actions;
  auto& actions = result_.machine.actions;
  if (values.find("reboot"))
    actions.reboot = LIMEN_TRY(values.choice("reboot", kReboots, "")) == "reset"
                         ? Actions::Reboot::kReset
                         : Actions::Reboot::kShutdown;
  if (values.find("shutdown"))
    actions.shutdown = LIMEN_TRY(values.choice("shutdown", kShutdowns, "")) == "pause"
                           ? Actions::Shutdown::kPause
                           : Actions::Shutdown::kPowerOff;
  if (values.find("panic")) {
    const auto panic = LIMEN_TRY(values.choice("panic", kPanics, ""));
    actions.panic =
        static_cast<Actions::Panic>(std::ranges::find(kPanics, panic) - kPanics.begin());
  }
  if (values.find("watchdog"))
    return watchdog_action(LIMEN_TRY(values.choice("watchdog", machine::kWatchdogActions, "")));
  return {};
}

Result<> Builder::watchdog_action(const std::string& argument) {
  const auto& actions = machine::kWatchdogActions;
  const auto* found = std::ranges::find(actions, std::string_view(argument));
  if (found == actions.end())
    return fail("invalid parameter value: {}{}", argument, choice_hint(argument, actions));
  result_.machine.actions.watchdog =
      static_cast<machine::Actions::Watchdog>(found - actions.begin());
  return {};
}

/// DRIVER.PROPERTY=VALUE: what management programs set for every machine.
Result<> Builder::global(const std::string& argument) {
  constexpr std::string_view kLostTicks = "kvm-pit.lost_tick_policy";
  constexpr std::array<std::string_view, 5> kKnown = {"ICH9-LPC.disable_s3", "ICH9-LPC.disable_s4",
                                                      "PIIX4_PM.disable_s3", "PIIX4_PM.disable_s4",
                                                      kLostTicks};
  const auto end = argument.find('=');
  const auto property = argument.substr(0, end);
  if (end == std::string::npos || std::ranges::find(kKnown, property) == kKnown.end())
    return fail("there is no such default to change{}", choice_hint(property, kKnown));
  const auto value = argument.substr(end + 1);
  if (property == kLostTicks) {
    if (value == "delay") return {};  // so it is anyway
    return fail("{}={}: the 8254 has no other; use delay", kLostTicks, value);
  }
  const auto number = machine::parse_number(value);
  if (!number || *number > UINT8_MAX) return fail("{}={}: 0 or 1 is expected", property, value);
  sleep_disabled_[property] = *number != 0;
  return {};
}

void Builder::finish_sleep_states() {
  const std::string part = result_.machine.type == "pc" ? "PIIX4_PM" : "ICH9-LPC";
  const auto disabled = [&](const char* property) {
    const auto found = sleep_disabled_.find(part + property);
    return found != sleep_disabled_.end() && found->second;
  };
  result_.machine.suspend_to_ram = !disabled(".disable_s3");
  result_.machine.suspend_to_disk = !disabled(".disable_s4");
}

Result<> Builder::no_hpet(const std::string&) {
  result_.machine.hpet = false;
  return {};
}

Result<> Builder::daemonize(const std::string&) {
  result_.process.daemonize = true;
  return {};
}

Result<> Builder::pid_file(const std::string& argument) {
  if (argument.empty()) return fail("the path of a file is missing");
  result_.process.pid_file = argument;
  return {};
}

Result<> Builder::messages(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  constexpr std::array<std::string_view, 2> kKnown = {"timestamp", "guest-name"};
  LIMEN_TRY(values.check(kKnown));
  result_.process.timestamps = LIMEN_TRY(values.boolean("timestamp", false));
  return {};
}

Result<> Builder::sandbox(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "enable"));
  constexpr std::array<std::string_view, 5> kKnown = {"enable", "obsolete", "elevateprivileges",
                                                      "spawn", "resourcecontrol"};
  constexpr std::array<std::string_view, 2> kChoices = {"allow", "deny"};
  constexpr std::array<std::string_view, 3> kPrivileges = {"allow", "deny", "children"};
  LIMEN_TRY(values.check(kKnown));
  result_.process.sandbox = LIMEN_TRY(values.boolean("enable", false));
  for (const auto key : std::span(kKnown).subspan(1)) {
    const auto choices = key == "elevateprivileges" ? std::span<const std::string_view>(kPrivileges)
                                                    : std::span<const std::string_view>(kChoices);
    result_.process.sandbox_policies[std::string(key)] =
        LIMEN_TRY(values.choice(key, choices, key == "obsolete" ? "deny" : "allow"));
  }
  return {};
}

Result<> Builder::preallocate(const std::string&) {
  result_.machine.preallocate_memory = true;
  return {};
}

Result<> Builder::overcommit(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  constexpr std::array<std::string_view, 2> kKnown = {"mem-lock", "cpu-pm"};
  LIMEN_TRY(values.check(kKnown));
  result_.process.lock_memory = LIMEN_TRY(values.boolean("mem-lock", false));
  if (LIMEN_TRY(values.boolean("cpu-pm", false)))
    return fail("cpu-pm=on: a guest that idles on the host's processor needs KVM; use off");
  return {};
}

Result<> Builder::run_as(const std::string& argument) {
  if (argument.empty()) return fail("the name of a user is missing");
  result_.process.user = argument;
  return {};
}

Result<> Builder::run_with(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  constexpr std::array<std::string_view, 2> kKnown = {"user", "chroot"};
  LIMEN_TRY(values.check(kKnown));
  if (const auto user = values.find("user")) return run_as(*user);
  result_.process.chroot = values.text("chroot");
  return {};
}

namespace {

/// A section as the option that means the same, or "" for a group that there is not.
std::string option_of(const std::string& group) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kNames = {
      {{"memory", "m"}, {"smp-opts", "smp"}, {"boot-opts", "boot"}, {"action", "action"}}};
  for (const auto& [name, option] : kNames)
    if (name == group) return std::string(option);
  static constexpr std::array<std::string_view, 16> kAlike = {
      "machine", "accel", "drive", "device",  "netdev", "chardev",    "mon", "object",
      "rtc",     "name",  "msg",   "sandbox", "global", "overcommit", "nic", "audiodev"};
  return std::ranges::find(kAlike, std::string_view(group)) == kAlike.end() ? "" : group;
}

std::string argument_of(const ConfigurationSection& section) {
  std::string words;
  for (const auto& [key, value] : section.values) {
    if (!words.empty()) words += ',';
    words += key + "=";
    for (const char c : value) words += c == ',' ? std::string(",,") : std::string(1, c);
  }
  return words;
}

/// [global] has driver, property and value apart.
Result<std::string> global_of(const ConfigurationSection& section) {
  std::string parts[3];
  constexpr std::array<std::string_view, 3> kKeys = {"driver", "property", "value"};
  for (const auto& [key, value] : section.values) {
    const auto found = std::ranges::find(kKeys, std::string_view(key));
    if (found == kKeys.end()) return fail("Invalid parameter '{}'{}", key, choice_hint(key, kKeys));
    parts[found - kKeys.begin()] = value;
  }
  return fmt::format("{}.{}={}", parts[0], parts[1], parts[2]);
}

}  // namespace

Result<> Builder::read_configuration(const std::string& argument) {
  std::error_code ignored;
  if (std::filesystem::is_directory(argument, ignored))
    return fail("Could not open '{}': Is a directory", argument);
  std::ifstream file(argument);
  if (!file) return fail_errno(errno, fmt::format("Could not open '{}'", argument));
  for (const auto& section : LIMEN_TRY(parse_configuration(file))) {
    const auto applied = [&]() -> Result<> {
      const auto name = option_of(section.group);
      if (name.empty()) return fail("There is no option group '{}'", section.group);
      const auto all = options();
      const auto option = std::ranges::find(all, std::string_view(name), &Option::name);
      if (option == all.end()) return fail("There is no option group '{}'", section.group);
      const auto words = name == "global" ? LIMEN_TRY(global_of(section)) : argument_of(section);
      return (this->*option->apply)(words);
    }();
    if (!applied)
      return fail("line {}: [{}]: {}", section.line, section.group, applied.error().message);
  }
  return {};
}

/// -add-fd fd=N,set=M[,opaque=TEXT]: what /dev/fdset/M opens.
Result<> Builder::add_descriptor(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  constexpr std::array<std::string_view, 3> kKnown = {"fd", "set", "opaque"};
  LIMEN_TRY(values.check(kKnown));
  const auto number = [&](std::string_view key) -> Result<uint64_t> {
    const auto text = values.find(key);
    if (!text) return fail("{} is required and must be non-negative", key == "set" ? "set" : "fd");
    const auto value = machine::parse_number(*text);
    if (!value || *value > INT32_MAX)
      return fail("{}={}: {} is required and must be non-negative", key, *text, key);
    return *value;
  };
  const auto fd = static_cast<int>(LIMEN_TRY(number("fd")));
  const auto set = LIMEN_TRY(number("set"));
  if (fd <= STDERR_FILENO) return fail("fd cannot be a standard I/O stream");
  // Whoever started this handed it over: it is not one of this process's own.
  const int flags = ::fcntl(fd, F_GETFD);
  if (flags < 0 || (flags & FD_CLOEXEC) != 0) return fail("fd is not valid or already in use");
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return fail_errno(errno, "error duplicating fd");
  static_cast<void>(
      LIMEN_TRY(FdSets::of_process().add(set, std::move(copy), values.text("opaque"))));
  return {};
}

}  // namespace limen::qemu
