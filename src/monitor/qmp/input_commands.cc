// What a program does in place of a person at keyboard and mouse.
#include <algorithm>
#include <chrono>
#include <functional>

#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/keys.h"
#include "monitor/qmp/command_table.h"
#include "monitor/shared.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kInputSchema = R"(
enum KeyValueKind { number, qcode }
struct IntWrapper { data: int }
struct QKeyCodeWrapper { data: str }
union KeyValue { type: KeyValueKind } on type { number: IntWrapper, qcode: QKeyCodeWrapper }
command send-key { keys: [KeyValue], *hold-time: int }

enum InputButton { left, middle, right, wheel-up, wheel-down, side, extra, wheel-left, wheel-right,
  touch }
enum InputAxis { x, y }
struct InputKeyEvent { key: KeyValue, down: bool }
struct InputBtnEvent { button: InputButton, down: bool }
struct InputMoveEvent { axis: InputAxis, value: int }
struct InputKeyEventWrapper { data: InputKeyEvent }
struct InputBtnEventWrapper { data: InputBtnEvent }
struct InputMoveEventWrapper { data: InputMoveEvent }
enum InputEventKind { key, btn, rel, abs }
union InputEvent { type: InputEventKind } on type { key: InputKeyEventWrapper,
  btn: InputBtnEventWrapper, rel: InputMoveEventWrapper, abs: InputMoveEventWrapper }
command input-send-event { *device: str, *head: int, events: [InputEvent] }

struct MouseInfo { name: str, index: int, current: bool, absolute: bool }
command query-mice -> [MouseInfo]
)";

using display::Button;
using display::PointerSink;

constexpr int64_t kFarthest = 1 << 20;
constexpr int64_t kDefaultHold = 100, kLongestHold = 60'000;  // milliseconds

std::string key_name(const Json& key) {
  const auto& data = key["data"];
  return data.is_string() ? data.get<std::string>() : fmt::format("{:#x}", data.get<int64_t>());
}

Reply send_key(Context& context, const Json& arguments) {
  auto* board = context.machine.board();
  if (board == nullptr) return failure("GenericError", "this machine has no keyboard");
  std::vector<std::string> names;
  for (const auto& key : arguments["keys"]) names.push_back(key_name(key));
  const auto keys = keys_of_names(names);
  if (!keys) return std::unexpected(Failure(keys.error()));
  const auto hold = arguments.value("hold-time", kDefaultHold);
  if (hold > kLongestHold)
    return failure("GenericError", "hold-time={} is too long; at most {} (ms)", hold, kLongestHold);
  auto& typist = context.shared.typist;
  if (typist == nullptr)
    typist = std::make_unique<KeyTypist>(context.machine.loop(), board->input());
  if (auto typed = typist->type(*keys, std::chrono::milliseconds(hold > 0 ? hold : kDefaultHold));
      !typed)
    return std::unexpected(Failure(std::move(typed).error()));
  return nothing();
}

void press(display::Input& input, const std::string& button, bool down) {
  // A wheel turns when its button goes down.
  const auto turn = [&](int vertical, int horizontal) {
    if (down) input.wheel(vertical, horizontal);
  };
  if (button == "wheel-up") return turn(1, 0);
  if (button == "wheel-down") return turn(-1, 0);
  if (button == "wheel-left") return turn(0, -1);
  if (button == "wheel-right") return turn(0, 1);
  input.button(button == "left"     ? Button::kLeft
               : button == "middle" ? Button::kMiddle
               : button == "right"  ? Button::kRight
               : button == "side"   ? Button::kSide
                                    : Button::kExtra,
               down);
}

Reply input_send_event(Context& context, const Json& arguments) {
  auto* board = context.machine.board();
  if (board == nullptr) return failure("GenericError", "this machine has no input devices");
  auto& input = board->input();
  if (const auto device = arguments.find("device"); device != arguments.end())
    return failure("GenericError",
                   "Device '{}' not found: there is no screen with input devices of its own",
                   device->get<std::string>());
  // All or nothing: what is wrong is found before the first event is sent.
  std::vector<std::function<void()>> steps;
  int x = 0, y = 0;  // relative
  std::optional<unsigned> to_x, to_y;
  for (const auto& event : arguments["events"]) {
    const auto type = event["type"].get<std::string>();
    const auto& data = event["data"];
    if (type == "key") {
      const auto code = key_of_name(key_name(data["key"]));
      if (!code) return std::unexpected(Failure(code.error()));
      steps.emplace_back(
          [&input, key = *code, down = data["down"].get<bool>()] { input.key(key, down); });
      continue;
    }
    if (type == "btn") {
      const auto button = data["button"].get<std::string>();
      if (button == "touch")
        return failure("GenericError", "Input handler not found for event type btn: touch");
      steps.emplace_back(
          [&input, button, down = data["down"].get<bool>()] { press(input, button, down); });
      continue;
    }
    const bool absolute = type == "abs";
    if (std::ranges::none_of(input.pointers(),
                             [&](const auto& each) { return each.absolute == absolute; }))
      return failure("GenericError", "Input handler not found for event type {}", type);
    const auto value = data["value"].get<int64_t>();
    const bool horizontal = data["axis"] == "x";
    if (absolute)
      (horizontal ? to_x : to_y) =
          static_cast<unsigned>(std::clamp<int64_t>(value, 0, PointerSink::kScale));
    else
      (horizontal ? x : y) += static_cast<int>(std::clamp(value, -kFarthest, kFarthest));
  }
  constexpr unsigned kMiddle = PointerSink::kScale / 2;
  auto& last = context.shared.last_position;
  if (to_x || to_y) {
    last.first = to_x.value_or(last.first.value_or(kMiddle));
    last.second = to_y.value_or(last.second.value_or(kMiddle));
    input.move_to(*last.first, *last.second);
  }
  if (x != 0 || y != 0) input.move_by(x, y);
  for (const auto& step : steps) step();
  input.sync();
  return nothing();
}

Reply query_mice(Context& context, const Json&) {
  Json all = Json::array();
  if (auto* board = context.machine.board())
    for (const auto& pointer : board->input().pointers())
      all.push_back({{"name", pointer.name},
                     {"index", pointer.index},
                     {"current", pointer.current},
                     {"absolute", pointer.absolute}});
  return all;
}

}  // namespace

CommandGroup input_commands() {
  return {
      kInputSchema,
      {{"send-key", send_key}, {"input-send-event", input_send_event}, {"query-mice", query_mice}}};
}

}  // namespace limen::monitor
