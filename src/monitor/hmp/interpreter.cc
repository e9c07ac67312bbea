#include "monitor/hmp/interpreter.h"

#include <algorithm>

#include "machine/machine.h"
#include "monitor/hmp/command.h"
#include "monitor/keys.h"

namespace limen::monitor {
namespace {

std::string with_line_ends(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '\n') out += '\r';
    out += c;
  }
  return out;
}

void add_matches(const HumanCommandGroups& groups, std::string_view start,
                 std::vector<std::string>& matches) {
  for (const auto& commands : groups)
    for (const auto& command : commands) {
      std::string_view names = command.name;
      while (!names.empty()) {
        const auto bar = std::min(names.find('|'), names.size());
        if (const auto name = names.substr(0, bar); name.starts_with(start))
          matches.emplace_back(name);
        names.remove_prefix(std::min(bar + 1, names.size()));
      }
    }
}

}  // namespace

const HumanCommand* find_human_command(std::span<const HumanCommand> among, std::string_view name) {
  for (const auto& command : among) {
    std::string_view names = command.name;
    while (!names.empty()) {
      const auto bar = std::min(names.find('|'), names.size());
      if (names.substr(0, bar) == name) return &command;
      names.remove_prefix(std::min(bar + 1, names.size()));
    }
  }
  return nullptr;
}

const HumanCommand* find_human_command(const HumanCommandGroups& among, std::string_view name) {
  for (const auto& group : among)
    if (const auto* command = find_human_command(group, name)) return command;
  return nullptr;
}

HumanCommandGroups top_level_groups() {
  return {control_commands(), disk_commands(), plug_commands(), inspection_commands(),
          input_device_commands()};
}

HumanCommandGroups information_groups() {
  return {information_commands(), part_information_commands()};
}

std::string HumanInterpreter::execute(std::string_view line) {
  output_.clear();
  const auto first = line.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || line[first] == '#') return {};
  line.remove_prefix(first);
  const auto end = line.find_first_of(" \t/");
  const auto name = line.substr(0, end);
  const auto* command = find_human_command(top_level_groups(), name);
  if (command == nullptr) {
    print("unknown command: '{}'\n", name);
    return with_line_ends(output_);
  }
  Words words(*this, line.substr(name.size()));
  if (auto done = command->run(*this, words); !done) print("{}\n", done.error().message);
  return with_line_ends(output_);
}

std::vector<std::string> HumanInterpreter::completions(std::string_view line) const {
  std::vector<std::string> matches;
  const auto space = line.rfind(' ');
  const auto last = space == std::string_view::npos ? line : line.substr(space + 1);
  const auto before = space == std::string_view::npos ? std::string_view() : line.substr(0, space);
  const bool help = before == "help" || before == "?";
  if (before.empty() || help) {
    add_matches(top_level_groups(), last, matches);
  } else if (before == "info" || before == "help info") {
    add_matches(information_groups(), last, matches);
  } else if (before == "sendkey") {
    const auto dash = last.rfind('-');
    const auto head = dash == std::string_view::npos ? "" : last.substr(0, dash + 1);
    for (const auto key : key_names())
      if (key.starts_with(last.substr(head.size())))
        matches.push_back(std::string(head) + std::string(key));
  } else if (before == "chardev-remove") {
    for (const auto& info : machine_.characters().list())
      if (info.label.starts_with(last)) matches.push_back(info.label);
  }
  std::ranges::sort(matches);
  return matches;
}

Result<> HumanInterpreter::choose_processor(int64_t index) {
  if (index < 0 || static_cast<size_t>(index) >= machine_.processors().size())
    return fail("invalid CPU index");
  processor_ = static_cast<unsigned>(index);
  return {};
}

Reply HumanInterpreter::run(const std::string& command, const Json& arguments) {
  const auto& table = CommandTable::all();
  Context context = this->context();
  const auto checked = check_arguments(*table.schema().find_command(command), arguments);
  Reply reply = checked ? table.handler(command)(context, arguments)
                        : Reply(std::unexpected(Failure(checked.error())));
  if (!reply) print("Error: {}\n", reply.error().description);
  return reply;
}

Result<x86::CpuState> HumanInterpreter::state() {
  if (machine_.processors().empty()) return fail("No CPU");
  x86::CpuState state;
  machine_.with_processors_held([&] { state = machine_.processors()[processor_]->vcpu().state(); });
  return state;
}

}  // namespace limen::monitor
