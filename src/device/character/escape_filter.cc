#include "device/character/escape_filter.h"

namespace limen::device {
namespace {

constexpr std::string_view kHelp =
    "\r\n"
    "Ctrl-a h    show this help\r\n"
    "Ctrl-a x    end the machine\r\n"
    "Ctrl-a a    send Ctrl-a to the guest\r\n";

}  // namespace

std::vector<uint8_t> EscapeFilter::filter(std::span<const uint8_t> typed) {
  std::vector<uint8_t> rest;
  rest.reserve(typed.size());
  for (const uint8_t byte : typed) {
    if (!escaped_) {
      if (byte == kEscape)
        escaped_ = true;
      else
        rest.push_back(byte);
      continue;
    }
    escaped_ = false;
    switch (byte) {
      case 'x':
        if (callbacks_.quit) callbacks_.quit();
        break;
      case 'h':
      case '?':
        if (callbacks_.print) callbacks_.print(kHelp);
        break;
      case 'a':
      case kEscape:
        rest.push_back(kEscape);
        break;
      default:
        break;  // not a command: dropped with its escape, as QEMU does
    }
  }
  return rest;
}

}  // namespace limen::device
