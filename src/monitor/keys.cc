#include "monitor/keys.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "base/nearest.h"
#include "device/i8042.h"
#include "machine/machine.h"
#include "machine/board.h"

namespace limen::monitor {
namespace {

struct Key {
  std::string_view name;
  uint8_t set1;  ///< Make code of scan code set 1.
  uint8_t set2;  ///< Of set 2 (IBM PS/2 Hardware Interface Technical Reference, "Keyboards").
  bool extended = false;
};

constexpr std::array kKeys = {
    Key{"esc", 0x01, 0x76},
    Key{"1", 0x02, 0x16},
    Key{"2", 0x03, 0x1E},
    Key{"3", 0x04, 0x26},
    Key{"4", 0x05, 0x25},
    Key{"5", 0x06, 0x2E},
    Key{"6", 0x07, 0x36},
    Key{"7", 0x08, 0x3D},
    Key{"8", 0x09, 0x3E},
    Key{"9", 0x0A, 0x46},
    Key{"0", 0x0B, 0x45},
    Key{"minus", 0x0C, 0x4E},
    Key{"equal", 0x0D, 0x55},
    Key{"backspace", 0x0E, 0x66},
    Key{"tab", 0x0F, 0x0D},
    Key{"q", 0x10, 0x15},
    Key{"w", 0x11, 0x1D},
    Key{"e", 0x12, 0x24},
    Key{"r", 0x13, 0x2D},
    Key{"t", 0x14, 0x2C},
    Key{"y", 0x15, 0x35},
    Key{"u", 0x16, 0x3C},
    Key{"i", 0x17, 0x43},
    Key{"o", 0x18, 0x44},
    Key{"p", 0x19, 0x4D},
    Key{"bracket_left", 0x1A, 0x54},
    Key{"bracket_right", 0x1B, 0x5B},
    Key{"ret", 0x1C, 0x5A},
    Key{"ctrl", 0x1D, 0x14},
    Key{"a", 0x1E, 0x1C},
    Key{"s", 0x1F, 0x1B},
    Key{"d", 0x20, 0x23},
    Key{"f", 0x21, 0x2B},
    Key{"g", 0x22, 0x34},
    Key{"h", 0x23, 0x33},
    Key{"j", 0x24, 0x3B},
    Key{"k", 0x25, 0x42},
    Key{"l", 0x26, 0x4B},
    Key{"semicolon", 0x27, 0x4C},
    Key{"apostrophe", 0x28, 0x52},
    Key{"grave_accent", 0x29, 0x0E},
    Key{"shift", 0x2A, 0x12},
    Key{"backslash", 0x2B, 0x5D},
    Key{"z", 0x2C, 0x1A},
    Key{"x", 0x2D, 0x22},
    Key{"c", 0x2E, 0x21},
    Key{"v", 0x2F, 0x2A},
    Key{"b", 0x30, 0x32},
    Key{"n", 0x31, 0x31},
    Key{"m", 0x32, 0x3A},
    Key{"comma", 0x33, 0x41},
    Key{"dot", 0x34, 0x49},
    Key{"slash", 0x35, 0x4A},
    Key{"shift_r", 0x36, 0x59},
    Key{"kp_multiply", 0x37, 0x7C},
    Key{"alt", 0x38, 0x11},
    Key{"spc", 0x39, 0x29},
    Key{"caps_lock", 0x3A, 0x58},
    Key{"f1", 0x3B, 0x05},
    Key{"f2", 0x3C, 0x06},
    Key{"f3", 0x3D, 0x04},
    Key{"f4", 0x3E, 0x0C},
    Key{"f5", 0x3F, 0x03},
    Key{"f6", 0x40, 0x0B},
    Key{"f7", 0x41, 0x83},
    Key{"f8", 0x42, 0x0A},
    Key{"f9", 0x43, 0x01},
    Key{"f10", 0x44, 0x09},
    Key{"num_lock", 0x45, 0x77},
    Key{"scroll_lock", 0x46, 0x7E},
    Key{"kp_7", 0x47, 0x6C},
    Key{"kp_8", 0x48, 0x75},
    Key{"kp_9", 0x49, 0x7D},
    Key{"kp_subtract", 0x4A, 0x7B},
    Key{"kp_4", 0x4B, 0x6B},
    Key{"kp_5", 0x4C, 0x73},
    Key{"kp_6", 0x4D, 0x74},
    Key{"kp_add", 0x4E, 0x79},
    Key{"kp_1", 0x4F, 0x69},
    Key{"kp_2", 0x50, 0x72},
    Key{"kp_3", 0x51, 0x7A},
    Key{"kp_0", 0x52, 0x70},
    Key{"kp_decimal", 0x53, 0x71},
    Key{"sysrq", 0x54, 0x84},
    Key{"less", 0x56, 0x61},
    Key{"f11", 0x57, 0x78},
    Key{"f12", 0x58, 0x07},
    Key{"kp_enter", 0x1C, 0x5A, true},
    Key{"ctrl_r", 0x1D, 0x14, true},
    Key{"kp_divide", 0x35, 0x4A, true},
    Key{"print", 0x37, 0x7C, true},
    Key{"alt_r", 0x38, 0x11, true},
    Key{"home", 0x47, 0x6C, true},
    Key{"up", 0x48, 0x75, true},
    Key{"pgup", 0x49, 0x7D, true},
    Key{"left", 0x4B, 0x6B, true},
    Key{"right", 0x4D, 0x74, true},
    Key{"end", 0x4F, 0x69, true},
    Key{"down", 0x50, 0x72, true},
    Key{"pgdn", 0x51, 0x7A, true},
    Key{"insert", 0x52, 0x70, true},
    Key{"delete", 0x53, 0x71, true},
    Key{"meta_l", 0x5B, 0x1F, true},
    Key{"meta_r", 0x5C, 0x27, true},
    Key{"menu", 0x5D, 0x2F, true},
};
constexpr uint8_t kExtended = 0xE0, kRelease = 0xF0;
constexpr size_t kMostKeys = 16;  // as QEMU

/// By name, or by what QEMU calls a number: the make code of set 1, with bit 7 for an extended key.
const Key* find_key(std::string_view name) {
  if (name.starts_with("0x")) {
    unsigned code = 0;
    const auto [end, error] = std::from_chars(name.data() + 2, name.data() + name.size(), code, 16);
    if (error != std::errc() || end != name.data() + name.size()) return nullptr;
    const auto found = std::ranges::find_if(kKeys, [&](const Key& key) {
      return key.set1 == (code & 0x7F) && key.extended == ((code & 0x80) != 0 || code >> 8 == 0xE0);
    });
    return found == kKeys.end() ? nullptr : &*found;
  }
  if (name == "<") name = "less";
  if (name == "shift_l") name = "shift";
  if (name == "asterisk") name = "kp_multiply";
  const auto found = std::ranges::find(kKeys, name, &Key::name);
  return found == kKeys.end() ? nullptr : &*found;
}

}  // namespace

std::vector<std::string_view> key_names() {
  std::vector<std::string_view> names;
  names.reserve(std::size(kKeys));
  for (const auto& key : kKeys) names.push_back(key.name);
  return names;
}

Result<> send_keys(machine::Machine& machine, std::span<const std::string> keys) {
  if (machine.board() == nullptr) return fail("this machine has no keyboard");
  if (keys.size() > kMostKeys) return fail("too many keys: at most {}", kMostKeys);
  std::vector<const Key*> pressed;
  for (const auto& name : keys) {
    const Key* key = find_key(name);
    if (key == nullptr)
      return fail("invalid parameter: {}{}", name, choice_hint(name, key_names()));
    pressed.push_back(key);
  }
  // One packet for each, so that a full queue of the keyboard drops keys and not halves of them.
  auto& keyboard = machine.board()->keyboard();
  const auto type = [&](const Key& key, bool release) {
    std::vector<uint8_t> codes;
    if (key.extended) codes.push_back(kExtended);
    if (release) codes.push_back(kRelease);
    codes.push_back(key.set2);
    keyboard.type(codes.data(), codes.size());
  };
  for (const Key* key : pressed) type(*key, false);
  for (auto key = pressed.rbegin(); key != pressed.rend(); ++key) type(**key, true);
  return {};
}

}  // namespace limen::monitor
