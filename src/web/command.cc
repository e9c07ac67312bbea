#include "web/command.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "base/nearest.h"

namespace limen::web {
namespace {

constexpr std::array<std::pair<std::string_view, Command>, 5> kCommands = {
    {{"pause", Command::kPause},
     {"resume", Command::kResume},
     {"powerdown", Command::kPowerDown},
     {"reset", Command::kReset},
     {"quit", Command::kQuit}}};

}  // namespace

std::string_view command_name(Command command) {
  for (const auto& [name, each] : kCommands)
    if (each == command) return name;
  return {};
}

Result<Command> parse_command(std::string_view message) {
  if (message.size() > kLongestCommand)
    return fail("a message of {} bytes; valid: up to {}", message.size(), kLongestCommand);
  const auto json = nlohmann::json::parse(message, nullptr, false);
  if (!json.is_object()) return fail("a message that is no JSON object");
  const auto found = json.find("command");
  if (found == json.end() || !found->is_string()) return fail("a message without a command");
  const auto& name = found->get_ref<const std::string&>();
  std::array<std::string_view, kCommands.size()> names;
  for (size_t i = 0; i < names.size(); ++i) {
    names.at(i) = kCommands.at(i).first;
    if (names.at(i) == name) return kCommands.at(i).second;
  }
  constexpr size_t kShown = 40;
  return fail("there is no command '{}'{}", name.substr(0, kShown),
              choice_hint(name.substr(0, kShown), names));
}

}  // namespace limen::web
