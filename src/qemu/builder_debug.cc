// Options for whoever debugs the guest or the machine: -gdb, -s, -d, -D, -trace, -perfmap.
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/nearest.h"
#include "gdb/listener.h"
#include "machine/accelerators.h"
#include "qemu/builder.h"

namespace limen::qemu {

Result<> Builder::debugger(const std::string& argument) {
  const auto address = LIMEN_TRY(gdb::parse_listen_address(argument));
  result_.machine.gdb = address.kind == gdb::ListenAddress::Kind::kNone ? "" : argument;
  return {};
}

Result<> Builder::debugger_at_default(const std::string&) { return debugger("tcp::1234"); }

Result<> Builder::log_items(const std::string& argument) {
  const auto items = machine::log_items();
  if (argument == "help" || argument == "?") {
    std::string text = "Log items (comma separated):\n";
    for (const auto& item : items) text += fmt::format("{:<15} {}\n", item.name, item.help);
    print(text);
    return {};
  }
  std::vector<std::string_view> names;
  for (const auto& item : items) names.push_back(item.name);
  auto& chosen = result_.machine.log.items;
  for (std::string_view rest = argument;;) {
    const size_t comma = rest.find(',');
    const auto name = rest.substr(0, comma);
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
