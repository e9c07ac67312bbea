#include "monitor/keys.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <ranges>

#include "base/nearest.h"

namespace limen::monitor {
namespace {

struct Key {
  std::string_view name;
  display::KeyCode code;
};

constexpr std::array kKeys = {
    Key{"esc", 0x01},
    Key{"1", 0x02},
    Key{"2", 0x03},
    Key{"3", 0x04},
    Key{"4", 0x05},
    Key{"5", 0x06},
    Key{"6", 0x07},
    Key{"7", 0x08},
    Key{"8", 0x09},
    Key{"9", 0x0A},
    Key{"0", 0x0B},
    Key{"minus", 0x0C},
    Key{"equal", 0x0D},
    Key{"backspace", 0x0E},
    Key{"tab", 0x0F},
    Key{"q", 0x10},
    Key{"w", 0x11},
    Key{"e", 0x12},
    Key{"r", 0x13},
    Key{"t", 0x14},
    Key{"y", 0x15},
    Key{"u", 0x16},
    Key{"i", 0x17},
    Key{"o", 0x18},
    Key{"p", 0x19},
    Key{"bracket_left", 0x1A},
    Key{"bracket_right", 0x1B},
    Key{"ret", 0x1C},
    Key{"ctrl", 0x1D},
    Key{"a", 0x1E},
    Key{"s", 0x1F},
    Key{"d", 0x20},
    Key{"f", 0x21},
    Key{"g", 0x22},
    Key{"h", 0x23},
    Key{"j", 0x24},
    Key{"k", 0x25},
    Key{"l", 0x26},
    Key{"semicolon", 0x27},
    Key{"apostrophe", 0x28},
    Key{"grave_accent", 0x29},
    Key{"shift", 0x2A},
    Key{"backslash", 0x2B},
    Key{"z", 0x2C},
    Key{"x", 0x2D},
    Key{"c", 0x2E},
    Key{"v", 0x2F},
    Key{"b", 0x30},
    Key{"n", 0x31},
    Key{"m", 0x32},
    Key{"comma", 0x33},
    Key{"dot", 0x34},
    Key{"slash", 0x35},
    Key{"shift_r", 0x36},
    Key{"kp_multiply", 0x37},
    Key{"alt", 0x38},
    Key{"spc", 0x39},
    Key{"caps_lock", 0x3A},
    Key{"f1", 0x3B},
    Key{"f2", 0x3C},
    Key{"f3", 0x3D},
    Key{"f4", 0x3E},
    Key{"f5", 0x3F},
    Key{"f6", 0x40},
    Key{"f7", 0x41},
    Key{"f8", 0x42},
    Key{"f9", 0x43},
    Key{"f10", 0x44},
    Key{"num_lock", 0x45},
    Key{"scroll_lock", 0x46},
    Key{"kp_7", 0x47},
    Key{"kp_8", 0x48},
    Key{"kp_9", 0x49},
    Key{"kp_subtract", 0x4A},
    Key{"kp_4", 0x4B},
    Key{"kp_5", 0x4C},
    Key{"kp_6", 0x4D},
    Key{"kp_add", 0x4E},
    Key{"kp_1", 0x4F},
    Key{"kp_2", 0x50},
    Key{"kp_3", 0x51},
    Key{"kp_0", 0x52},
    Key{"kp_decimal", 0x53},
    Key{"sysrq", 0x54},
    Key{"less", 0x56},
    Key{"f11", 0x57},
    Key{"f12", 0x58},
    Key{"kp_enter", 0x9C},
    Key{"ctrl_r", 0x9D},
    Key{"kp_divide", 0xB5},
    Key{"print", 0xB7},
    Key{"alt_r", 0xB8},
    Key{"home", 0xC7},
    Key{"up", 0xC8},
    Key{"pgup", 0xC9},
    Key{"left", 0xCB},
    Key{"right", 0xCD},
    Key{"end", 0xCF},
    Key{"down", 0xD0},
    Key{"pgdn", 0xD1},
    Key{"insert", 0xD2},
    Key{"delete", 0xD3},
    Key{"meta_l", 0xDB},
    Key{"meta_r", 0xDC},
    Key{"menu", 0xDD},
    Key{"pause", 0xC6},
    Key{"kp_equals", 0x59},
    Key{"kp_comma", 0x7E},
    Key{"ro", 0x73},
    Key{"yen", 0x7D},
    Key{"henkan", 0x79},
    Key{"muhenkan", 0x7B},
    Key{"hiragana", 0x70},
    Key{"power", 0xDE},
    Key{"sleep", 0xDF},
    Key{"wake", 0xE3},
    Key{"audionext", 0x99},
    Key{"audioprev", 0x90},
    Key{"audiostop", 0xA4},
    Key{"audioplay", 0xA2},
    Key{"audiomute", 0xA0},
    Key{"volumeup", 0xB0},
    Key{"volumedown", 0xAE},
    Key{"calculator", 0xA1},
    Key{"mail", 0xEC},
    Key{"mediaselect", 0xED},
    Key{"computer", 0xEB},
    Key{"ac_home", 0xB2},
    Key{"ac_back", 0xEA},
    Key{"ac_forward", 0xE9},
    Key{"ac_refresh", 0xE7},
    Key{"ac_bookmarks", 0xE6},
};
constexpr size_t kMostKeys = 16;  // as QEMU

}  // namespace

std::vector<std::string_view> key_names() {
  std::vector<std::string_view> names;
  names.reserve(std::size(kKeys));
  for (const auto& key : kKeys) names.push_back(key.name);
  return names;
}

Result<display::KeyCode> key_of_name(std::string_view name) {
  if (name.starts_with("0x")) {
    // What QEMU calls a number: the make code of set 1, with bit 7 or E0h for an extended key.
    unsigned code = 0;
    const auto [end, error] = std::from_chars(name.data() + 2, name.data() + name.size(), code, 16);
    const bool extended = (code & 0x80) != 0 || code >> 8 == 0xE0;
    if (error != std::errc() || end != name.data() + name.size() || (code & 0x7F) == 0 ||
        (code >> 8 != 0 && code >> 8 != 0xE0))
      return fail("invalid parameter: {}", name);
    return static_cast<display::KeyCode>((code & 0x7F) | (extended ? display::kExtended : 0));
  }
  const std::string_view asked = name;
  if (name == "<") name = "less";
  if (name == "shift_l") name = "shift";
  if (name == "asterisk") name = "kp_multiply";
  const auto found = std::ranges::find(kKeys, name, &Key::name);
  if (found == kKeys.end())
    return fail("invalid parameter: {}{}", asked, choice_hint(asked, key_names()));
  return found->code;
}

Result<std::vector<display::KeyCode>> keys_of_names(std::span<const std::string> names) {
  if (names.size() > kMostKeys) return fail("too many keys: at most {}", kMostKeys);
  std::vector<display::KeyCode> codes;
  for (const auto& name : names) codes.push_back(LIMEN_TRY(key_of_name(name)));
  return codes;
}

KeyTypist::KeyTypist(EventLoop& loop, display::Input& input)
    : loop_(loop), input_(input), timer_(loop, [this] { go_on(); }) {}

Result<> KeyTypist::type(std::span<const display::KeyCode> keys, std::chrono::milliseconds hold) {
  if (strokes_.size() + 2 * keys.size() > kMostStrokes)
    return fail("too many keys wait to be typed: at most {}", kMostStrokes);
  const bool idle = strokes_.empty();
  for (const auto key : keys) strokes_.push_back({key, true, hold});
  for (const auto key : std::views::reverse(keys)) strokes_.push_back({key, false, hold});
  if (idle) go_on();
  return {};
}

void KeyTypist::go_on() {
  // The pause behind the last stroke is kept, too: it stands in the queue until then.
  if (pausing_) {
    pausing_ = false;
    strokes_.pop_front();
  }
  if (strokes_.empty()) return;
  const auto& stroke = strokes_.front();
  input_.key(stroke.key, stroke.down);
  pausing_ = true;
  timer_.arm(loop_.now() + stroke.hold);
}

}  // namespace limen::monitor
