// Options for serial ports, monitors and the character back ends behind them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/nearest.h"
#include "device/character/escape_filter.h"
#include "machine/device_catalog.h"
#include "qemu/builder.h"
#include "qemu/character_options.h"
#include "qemu/key_values.h"

namespace limen::qemu {
namespace {

using machine::CharacterDescription;
using Kind = CharacterDescription::Kind;

constexpr size_t kSerialPorts = 4;
constexpr std::string_view kReference = "chardev:";

bool has_character(const machine::MachineDescription& machine, std::string_view id) {
  return std::ranges::any_of(machine.characters, [&](const auto& each) { return each.id == id; });
}

std::string character_hint(const machine::MachineDescription& machine, std::string_view wanted) {
  std::vector<std::string_view> ids;
  ids.reserve(machine.characters.size());
  for (const auto& character : machine.characters) ids.push_back(character.id);
  return choice_hint(wanted, ids);
}

/// What -serial, -monitor and -qmp take, told early: the error then names the option.
Result<> check_specification(const std::string& specification) {
  if (specification == "none") return {};
  if (!specification.starts_with(kReference)) {
    LIMEN_TRY(parse_short_character(specification, "check"));
    return {};
  }
  if (specification.size() == kReference.size()) return fail("the id of a -chardev is missing");
  return {};
}

}  // namespace

Result<> Builder::character(const std::string& argument) {
  auto character = LIMEN_TRY(parse_character(argument));
  if (has_character(result_.machine, character.id))
    return fail("Duplicate ID '{}' for chardev", character.id);
  result_.machine.characters.push_back(std::move(character));
  return {};
}

Result<> Builder::serial(const std::string& argument) {
  if (argument == "file:") return fail("a path is missing, as in file:serial.log");
  LIMEN_TRY(check_specification(argument));
  if (serials_.size() == kSerialPorts)
    return fail("a board has {} serial ports, and all are taken", kSerialPorts);
  serials_.push_back(argument);
  return {};
}

Result<> Builder::add_monitor(const std::string& specification, bool control, bool pretty) {
  monitor_chosen_ = true;
  LIMEN_TRY(check_specification(specification));
  if (specification != "none") monitors_.push_back({specification, control, pretty});
  return {};
}

Result<> Builder::monitor(const std::string& argument) {
  return add_monitor(argument, false, false);
}
Result<> Builder::control_monitor(const std::string& argument) {
  return add_monitor(argument, true, false);
}
Result<> Builder::pretty_control_monitor(const std::string& argument) {
  return add_monitor(argument, true, true);
}

Result<> Builder::general_monitor(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "chardev"));
  constexpr std::array<std::string_view, 4> kKnown = {"chardev", "mode", "pretty", "id"};
  constexpr std::array<std::string_view, 2> kModes = {"readline", "control"};
  LIMEN_TRY(values.check(kKnown));
  machine::MonitorDescription monitor;
  monitor.id = values.text("id");
  monitor.character = values.text("chardev");
  if (monitor.character.empty()) return fail("Parameter 'chardev' is missing");
  monitor.control = LIMEN_TRY(values.choice("mode", kModes, "readline")) == "control";
  monitor.pretty = LIMEN_TRY(values.boolean("pretty", false));
  if (monitor.pretty && !monitor.control)
    return fail("'pretty' is not compatible with HMP monitors");
  for (const auto& other : result_.machine.monitors)
    if (!monitor.id.empty() && other.id == monitor.id)
      return fail("Duplicate ID '{}' for mon", monitor.id);
  monitor_chosen_ = true;
  result_.machine.monitors.push_back(std::move(monitor));
  return {};
}

Result<> Builder::escape_key(const std::string& argument) {
  const auto key = LIMEN_TRY(machine::parse_number(argument));
  if (key > UINT8_MAX) return fail("a key is a number from 0 to 255");
  device::EscapeFilter::set_escape(static_cast<uint8_t>(key));
  return {};
}

/// Makes the back end that `specification` names and returns its id.
Result<std::string> Builder::add_backend(const std::string& specification,
                                         const std::string& label) {
  if (specification.starts_with(kReference)) {
    auto id = specification.substr(kReference.size());
    if (!has_character(result_.machine, id))
      return fail("{}: there is no -chardev '{}'{}", specification, id,
                  character_hint(result_.machine, id));
    return id;
  }
  auto character = LIMEN_TRY(parse_short_character(specification, label));
  if (has_character(result_.machine, label)) return fail("Duplicate ID '{}' for chardev", label);
  result_.machine.characters.push_back(std::move(character));
  if (specification.starts_with("mon:"))
    result_.machine.monitors.push_back({.id = {}, .character = label});
  return label;
}

/// What QEMU adds when no serial port and no monitor was asked for.
void Builder::add_default_console() {
  if (no_defaults_ || result_.machine.type == "none") return;
  const bool with_monitor =
      !monitor_chosen_ && std::ranges::none_of(serials_, [](const std::string& serial) {
        return serial.starts_with("mon:");
      });
  const auto uses_terminal = [](const std::string& specification) {
    return specification == "stdio" || specification.starts_with("stdio,") ||
           specification.starts_with("mon:stdio");
  };
  const bool terminal_taken =
      std::ranges::any_of(serials_, uses_terminal) ||
      std::ranges::any_of(monitors_, uses_terminal, &Monitor::specification) ||
      std::ranges::any_of(result_.machine.characters,
                          [](const auto& each) { return each.kind == Kind::kStdio; });
  if (no_graphic_ && !terminal_taken) {
    if (serials_.empty())
      serials_.push_back(with_monitor ? "mon:stdio" : "stdio");
    else if (with_monitor)
      monitors_.push_back({"stdio", false, false});
    return;
  }
  if (!serials_.empty()) return;
  serials_.push_back(result_.machine.web ? "web" : "null");
}

/// Monitors of -monitor and -qmp, then a look at all of them.
Result<> Builder::connect_monitors() {
  unsigned number = 0;
  for (const auto& monitor : monitors_) {
    const auto label = fmt::format("compat_monitor{}", number++);
    const auto id = LIMEN_TRY(add_backend(monitor.specification, label));
    result_.machine.monitors.push_back(
        {.id = label, .character = id, .control = monitor.control, .pretty = monitor.pretty});
  }
  return check_monitors();
}

Result<> Builder::check_monitors() const {
  for (const auto& monitor : result_.machine.monitors)
    if (!has_character(result_.machine, monitor.character))
      return fail("chardev \"{}\" not found{}", monitor.character,
                  character_hint(result_.machine, monitor.character));
  return {};
}

}  // namespace limen::qemu
