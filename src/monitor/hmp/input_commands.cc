// Commands for keyboard and mouse.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/hmp/command.h"
#include "monitor/keys.h"

namespace limen::monitor {
namespace {

Result<> send_key(HumanInterpreter& interpreter, Words& words) {
  const auto text = words.word();
  if (text.empty()) return fail("sendkey: string expected");
  std::vector<std::string> names;
  for (size_t at = 0; at <= text.size();) {
    const auto dash = std::min(text.find('-', at), text.size());
    names.push_back(text.substr(at, dash - at));
    at = dash + 1;
  }
  Json arguments = {{"keys", Json::array()}};
  if (!words.at_end()) arguments["hold-time"] = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  for (const auto key : LIMEN_TRY(keys_of_names(names)))
    arguments["keys"].push_back({{"type", "number"}, {"data", key}});
  interpreter.perform("send-key", arguments);
  return {};
}

Result<display::Input*> input_of(HumanInterpreter& interpreter) {
  auto* board = interpreter.machine().board();
  if (board == nullptr) return fail("this machine has no mouse");
  return &board->input();
}

/// A number by itself, not an expression: "5 -2" are two.
Result<int> steps(Words& words) {
  constexpr int kMost = 1 << 20;
  const auto word = words.word();
  int value = 0;
  const auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (problem != std::errc{} || end != word.data() + word.size())
    return fail("'{}' is not a number of steps", word);
  return std::clamp(value, -kMost, kMost);
}

Result<> mouse_move(HumanInterpreter& interpreter, Words& words) {
  auto& input = *LIMEN_TRY(input_of(interpreter));
  const int x = LIMEN_TRY(steps(words));
  const int y = LIMEN_TRY(steps(words));
  const int wheel = words.at_end() ? 0 : LIMEN_TRY(steps(words));
  LIMEN_TRY(words.end());
  input.move_by(x, y);
  // Down, towards the person, is positive here.
  if (wheel != 0) input.wheel(-wheel, 0);
  input.sync();
  return {};
}

Result<> mouse_button(HumanInterpreter& interpreter, Words& words) {
  auto& input = *LIMEN_TRY(input_of(interpreter));
  const int64_t state = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  constexpr std::array kButtons = {display::Button::kLeft, display::Button::kMiddle,
                                   display::Button::kRight};
  for (size_t i = 0; i < kButtons.size(); ++i) input.button(kButtons.at(i), (state >> i & 1) != 0);
  input.sync();
  return {};
}

Result<> mouse_set(HumanInterpreter& interpreter, Words& words) {
  auto& input = *LIMEN_TRY(input_of(interpreter));
  const int64_t index = LIMEN_TRY(words.expression());
  LIMEN_TRY(words.end());
  if (index < 0 || index > UINT32_MAX || !input.choose_pointer(static_cast<unsigned>(index)))
    return fail("Mouse at index '{}' not found", index);
  return {};
}

Result<> set_password(HumanInterpreter& interpreter, Words& words) {
  const auto protocol = words.word(), password = words.word();
  if (password.empty()) return fail("set_password: string expected");
  Json arguments = {{"protocol", protocol}, {"password", password}};
  if (const auto connected = words.word(); !connected.empty()) arguments["connected"] = connected;
  LIMEN_TRY(words.end());
  interpreter.perform("set_password", arguments);
  return {};
}

Result<> expire_password(HumanInterpreter& interpreter, Words& words) {
  const auto protocol = words.word(), time = words.word();
  if (time.empty()) return fail("expire_password: string expected");
  LIMEN_TRY(words.end());
  interpreter.perform("expire_password", {{"protocol", protocol}, {"time", time}});
  return {};
}

constexpr std::array kInputCommands = {
    HumanCommand{"set_password", "protocol password [action-if-connected]",
                 "set the password of the VNC server", set_password},
    HumanCommand{"expire_password", "protocol time", "set when the VNC server's password expires",
                 expire_password},
    HumanCommand{"sendkey", "keys [hold_ms]", "send keys to the VM (e.g. 'sendkey ctrl-alt-f1')",
                 send_key},
    HumanCommand{"mouse_move", "dx dy [dz]", "send mouse move events", mouse_move},
    HumanCommand{"mouse_button", "state", "change mouse button state (1=L, 2=M, 4=R)",
                 mouse_button},
    HumanCommand{"mouse_set", "index", "set which mouse device receives events", mouse_set},
};

}  // namespace

std::span<const HumanCommand> input_device_commands() { return kInputCommands; }

Result<> show_vnc(HumanInterpreter& interpreter, Words&) {
  const auto reply = interpreter.run("query-vnc-servers");
  if (!reply) return {};
  if (reply->empty()) interpreter.print("None\n");
  const auto place = [](const Json& at) {
    return fmt::format("{}:{} ({}){}", at["host"].get<std::string>(),
                       at["service"].get<std::string>(), at["family"].get<std::string>(),
                       at["websocket"].get<bool>() ? " (Websocket)" : "");
  };
  for (const auto& server : *reply) {
    interpreter.print("{}:\n", server["id"].get<std::string>());
    for (const auto& at : server["server"])
      interpreter.print("  Server: {}\n    Auth: {} (Sub: {})\n", place(at),
                        at["auth"].get<std::string>(), at.value("vencrypt", "none"));
    for (const auto& client : server["clients"])
      interpreter.print("  Client: {}\n    x509_dname: none\n    sasl_username: none\n",
                        place(client));
  }
  return {};
}

Result<> show_mice(HumanInterpreter& interpreter, Words&) {
  const auto reply = interpreter.run("query-mice");
  if (!reply) return {};
  if (reply->empty()) interpreter.print("No mouse devices connected\n");
  for (const auto& mouse : *reply)
    interpreter.print("{} Mouse #{}: {}{}\n", mouse["current"].get<bool>() ? '*' : ' ',
                      mouse["index"].get<unsigned>(), mouse["name"].get<std::string>(),
                      mouse["absolute"].get<bool>() ? " (absolute)" : "");
  return {};
}

}  // namespace limen::monitor
