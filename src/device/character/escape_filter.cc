#include "device/character/escape_filter.h"

#include <fmt/format.h>

#include <array>
#include <string>

namespace limen::device {
namespace {

std::string help(uint8_t escape) {
  const std::string key = escape >= 1 && escape < 26 ? fmt::format("Ctrl-{:c}", 'a' + escape - 1)
                                                     : fmt::format("0x{:02x}", escape);
  std::string text = "\r\n";
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kCommands = {{
      {"h", "print this help"},
      {"x", "exit emulator"},
      {"s", "save disk data back to file (if -snapshot)"},
      {"t", "toggle console timestamps"},
      {"b", "send break (magic sysrq)"},
      {"c", "switch between console and monitor"},
  }};
  for (const auto& [command, what] : kCommands)
    text += fmt::format("{} {:<10}{}\r\n", key, command, what);
  return text + fmt::format("{} {:<10}sends {}\r\n", key, key, key);
}

}  // namespace

std::vector<uint8_t> EscapeFilter::filter(std::span<const uint8_t> typed) {
  std::vector<uint8_t> rest;
  rest.reserve(typed.size());
  for (const uint8_t byte : typed) {
    if (!escaped_) {
      if (byte == escape)
        escaped_ = true;
      else
        rest.push_back(byte);
      continue;
    }
    escaped_ = false;
    if (byte == escape || byte == 'a') {
      rest.push_back(escape);
      continue;
    }
    switch (byte) {
      case 'x':
        if (callbacks_.quit) callbacks_.quit();
        break;
      case 'h':
      case '?':
        if (callbacks_.print) callbacks_.print(help(escape));
        break;
      case 'c':
        if (callbacks_.next) callbacks_.next();
        break;
      case 'b':
        if (callbacks_.send_break) callbacks_.send_break();
        break;
      case 's':
        if (callbacks_.save) callbacks_.save();
        break;
      case 't':
        if (callbacks_.timestamps) callbacks_.timestamps();
        break;
      default:
        break;  // not a command: dropped with its escape, as QEMU does
    }
  }
  return rest;
}

}  // namespace limen::device
