// Any text as the JSON behind an option: it is understood or refused with a message.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/log.h"
#include "qemu/command_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  limen::log::set_level(limen::log::Level::kError);
  if (size == 0) return 0;
  constexpr std::array<const char*, 7> kOptions = {"-device",   "-object",  "-netdev", "-blockdev",
                                                   "-audiodev", "-display", "-nic"};
  std::string json(reinterpret_cast<const char*>(data + 1), size - 1);
  if (json.find("/dev/") != std::string::npos) return 0;  // files that a secret is read from
  const std::string words[] = {"-machine", "none", kOptions[data[0] % kOptions.size()], "{" + json};
  const auto parsed = limen::qemu::parse_command_line("fuzz", words);
  if (!parsed && parsed.error().message.empty()) std::abort();
  return 0;
}
