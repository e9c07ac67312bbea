// Commands by which parts come and go: devices, networks, objects, character back ends.
#include <fmt/format.h>

#include <array>

#include "base/option_list.h"
#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/hmp/command.h"
#include "monitor/network_parameters.h"

namespace limen::monitor {
namespace {

/// What stands behind "device_add", as JSON.
Result<Json> options(std::string_view text, std::string_view implied_key) {
  Json all = Json::object();
  for (auto& [key, value] : LIMEN_TRY(parse_option_list(text, implied_key)))
    all[key] = std::move(value);
  return all;
}

/// "Error: " before what commands of QMP's print with it, too.
std::unexpected<Error> error(Error error) {
  error.message.insert(0, "Error: ");
  return std::unexpected(std::move(error));
}

Result<std::string> one_word(Words& words, const char* command, const char* what) {
  auto word = words.word();
  if (word.empty()) return fail("{}: {} expected", command, what);
  LIMEN_TRY(words.end());
  return word;
}

Result<> device_add(HumanInterpreter& interpreter, Words& words) {
  auto arguments = options(words.all(), "driver");
  if (!arguments) return error(std::move(arguments).error());
  interpreter.perform("device_add", *arguments);
  return {};
}

Result<> device_del(HumanInterpreter& interpreter, Words& words) {
  const auto id = LIMEN_TRY(one_word(words, "device_del", "id"));
  interpreter.perform("device_del", {{"id", id}});
  return {};
}

Result<> balloon(HumanInterpreter& interpreter, Words& words) {
  constexpr int64_t kMost = int64_t{1} << 43;
  const int64_t target = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  if (target < 0 || target >= kMost) return fail("balloon: '{}' is not a size in MB", target);
  interpreter.perform("balloon", {{"value", static_cast<uint64_t>(target) << 20}});
  return {};
}

Result<> netdev_add(HumanInterpreter& interpreter, Words& words) {
  auto parameters = parse_option_list(words.all(), "type");
  if (!parameters) return error(std::move(parameters).error());
  auto context = interpreter.context();
  if (auto added = add_netdev(context, std::move(*parameters)); !added)
    return error(std::move(added).error());
  return {};
}

Result<> netdev_del(HumanInterpreter& interpreter, Words& words) {
  const auto id = LIMEN_TRY(one_word(words, "netdev_del", "id"));
  interpreter.perform("netdev_del", {{"id", id}});
  return {};
}

Result<> set_link(HumanInterpreter& interpreter, Words& words) {
  const auto name = words.word();
  const auto state = words.word();
  LIMEN_TRY(words.end());
  if (name.empty()) return fail("set_link: device name expected");
  if (state != "on" && state != "off")
    return fail("set_link: Expected 'on' or 'off'{}", state.empty() ? "" : ", not '" + state + "'");
  interpreter.perform("set_link", {{"name", name}, {"up", state == "on"}});
  return {};
}

/// "[NETDEV] RULE".
struct Forward {
  net::Network* network = nullptr;
  std::string netdev;
  std::string rule;
};
Result<Forward> forward(HumanInterpreter& interpreter, Words& words) {
  auto* board = interpreter.machine().board();
  Forward forward{.network = board != nullptr ? board->network() : nullptr,
                  .netdev = words.word(),
                  .rule = words.word()};
  LIMEN_TRY(words.end());
  if (forward.rule.empty()) std::swap(forward.netdev, forward.rule);
  if (forward.rule.empty()) return fail("invalid format");
  if (forward.network == nullptr) return fail("user mode network stack not in use");
  return forward;
}

Result<> hostfwd_add(HumanInterpreter& interpreter, Words& words) {
  const auto wanted = LIMEN_TRY(forward(interpreter, words));
  return wanted.network->add_host_forward(wanted.netdev, wanted.rule);
}

Result<> hostfwd_remove(HumanInterpreter& interpreter, Words& words) {
  const auto wanted = LIMEN_TRY(forward(interpreter, words));
  const bool removed = LIMEN_TRY(wanted.network->remove_host_forward(wanted.netdev, wanted.rule));
  interpreter.print("host forwarding rule for {} {}\n", wanted.rule,
                    removed ? "removed" : "not found");
  return {};
}

Result<> object_add(HumanInterpreter& interpreter, Words& words) {
  auto list = parse_option_list(words.all(), "qom-type");
  if (!list) return error(std::move(list).error());
  machine::ObjectDescription object;
  for (auto& [key, value] : *list) {
    if (key == "qom-type")
      object.type = std::move(value);
    else if (key == "id")
      object.id = std::move(value);
    else
      object.properties[key] = std::move(value);
  }
  if (auto added = interpreter.machine().add_object(object); !added)
    return error(std::move(added).error());
  return {};
}

Result<> object_del(HumanInterpreter& interpreter, Words& words) {
  const auto id = LIMEN_TRY(one_word(words, "object_del", "id"));
  interpreter.perform("object-del", {{"id", id}});
  return {};
}

Result<> send_break(HumanInterpreter& interpreter, Words& words) {
  const auto id = LIMEN_TRY(one_word(words, "chardev-send-break", "id"));
  interpreter.perform("chardev-send-break", {{"id", id}});
  return {};
}

constexpr std::array kPlugCommands = {
    HumanCommand{"device_add", "driver[,prop=value][,...]",
                 "add device, like -device on the "
                 "command line",
                 device_add},
    HumanCommand{"device_del", "device", "remove device", device_del},
    HumanCommand{"balloon", "target", "request VM to change its memory allocation (in MB)",
                 balloon},
    HumanCommand{"chardev-send-break", "id", "send a break on chardev", send_break},
    HumanCommand{"netdev_add",
                 "[user|tap|bridge|socket|stream|dgram|hubport],id=str[,prop=value][,...]",
                 "add host network device", netdev_add},
    HumanCommand{"netdev_del", "id", "remove host network device", netdev_del},
    HumanCommand{"object_add", "[qom-type=]type,id=str[,prop=value][,...]", "create QOM object",
                 object_add},
    HumanCommand{"object_del", "id", "destroy QOM object", object_del},
    HumanCommand{"set_link", "name on|off", "change the link status of a network adapter",
                 set_link},
    HumanCommand{"hostfwd_add", "[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport",
                 "redirect TCP or UDP connections from host to guest (requires -net user)",
                 hostfwd_add},
    HumanCommand{"hostfwd_remove", "[netdev_id] [tcp|udp]:[hostaddr]:hostport",
                 "remove host-to-guest TCP or UDP redirection", hostfwd_remove},
};

}  // namespace

std::span<const HumanCommand> plug_commands() { return kPlugCommands; }

}  // namespace limen::monitor
