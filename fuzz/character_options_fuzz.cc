// Any text as what -chardev, -serial and -monitor take.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "qemu/character_options.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto character = limen::qemu::parse_character(text);
  if (!character && character.error().message.empty()) std::abort();
  if (character && character->id.empty()) std::abort();
  const auto brief = limen::qemu::parse_short_character(text, "label");
  if (!brief && brief.error().message.empty()) std::abort();
  if (brief && brief->id != "label") std::abort();
  return 0;
}
