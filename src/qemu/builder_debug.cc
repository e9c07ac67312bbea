// Options for whoever debugs the guest or the machine: -gdb, -s, -d, -D, -trace, -perfmap.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <vector>

#include "base/log.h"
#include "base/nearest.h"
#include "base/trace.h"
#include "gdb/listener.h"
#include "machine/accelerators.h"
#include "qemu/builder.h"
#include "qemu/key_values.h"

namespace limen::qemu {

Result<> Builder::debugger(const std::string& argument) {
  const auto address = LIMEN_TRY(gdb::parse_listen_address(argument));
  result_.machine.gdb = address.kind == gdb::ListenAddress::Kind::kNone ? "" : argument;
  return {};
}

Result<> Builder::debugger_at_default(const std::string&) { return debugger("tcp::1234"); }

/// As in QEMU, what does not exist is said and passed over.
void Builder::add_event_pattern(const std::string& pattern) {
  auto name = std::string_view(pattern);
  if (name.starts_with('-')) name.remove_prefix(1);
  if (name.find_first_of("*?") == std::string_view::npos) {
    std::vector<std::string_view> names;
    for (const auto* event : trace::events()) names.push_back(event->name());
    if (std::ranges::find(names, name) == names.end()) {
      log::warning("trace event '{}' does not exist{}", name, choice_hint(name, names));
      return;
    }
  }
  result_.machine.log.events.push_back(pattern);
}

Result<> Builder::trace_events(const std::string& argument) {
  if (argument == "help" || argument == "?") {
    std::string text;
    for (const auto* event : trace::events()) text += fmt::format("{}\n", event->name());
    print(text);
    return {};
  }
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "enable"));
  constexpr std::array<std::string_view, 3> kKnown = {"enable", "events", "file"};
  for (const auto& [key, value] : values.pairs()) {
    if (std::ranges::find(kKnown, std::string_view(key)) == kKnown.end())
      return fail("Invalid parameter '{}'{}", key, choice_hint(key, kKnown));
    if (key == "enable") {
      add_event_pattern(value);
    } else if (key == "file") {
      result_.machine.log.event_file = value;
    } else {
      std::ifstream file(value);
      if (!file)
        return fail_errno(errno, fmt::format("Could not open trace event list '{}'", value));
      for (std::string line; std::getline(file, line);)
        if (!line.empty() && !line.starts_with('#')) add_event_pattern(line);
    }
  }
  return {};
}

Result<> Builder::log_items(const std::string& argument) {
  const auto items = machine::log_items();
  if (argument == "help" || argument == "?") {
    std::string text = "Log items (comma separated):\n";
    for (const auto& item : items) text += fmt::format("{:<15} {}\n", item.name, item.help);
    text += fmt::format("{:<15} {}\n", "trace:PATTERN", "events; -trace help lists them");
    print(text);
    return {};
  }
  std::vector<std::string_view> names;
  for (const auto& item : items) names.push_back(item.name);
  auto& chosen = result_.machine.log.items;
  for (std::string_view rest = argument;;) {
    const size_t comma = rest.find(',');
    const auto name = rest.substr(0, comma);
    constexpr std::string_view kTrace = "trace:";
    if (name.starts_with(kTrace)) {
      add_event_pattern(std::string(name.substr(kTrace.size())));
      if (comma == std::string_view::npos) return {};
      rest.remove_prefix(comma + 1);
      continue;
    }
    if (std::ranges::find(names, name) == names.end())
      return fail("unknown log item '{}'{}", name, choice_hint(name, names));
    chosen.emplace(name);
    if (comma == std::string_view::npos) return {};
    rest.remove_prefix(comma + 1);
  }
}

Result<> Builder::log_file(const std::string& argument) {
  if (argument.empty()) return fail("the path of a file is missing");
  result_.machine.log.file = argument;
  return {};
}

Result<> Builder::perf_map(const std::string&) {
  result_.machine.log.perf_map = true;
  return {};
}

}  // namespace limen::qemu
