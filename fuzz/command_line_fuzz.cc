// Any words as a command line: it is understood or refused with a message.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/log.h"
#include "qemu/command_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  limen::log::set_level(limen::log::Level::kError);
  std::vector<std::string> words(1);
  for (size_t i = 0; i < size; ++i) {
    if (data[i] == '\n')
      words.emplace_back();
    else
      words.back() += static_cast<char>(data[i]);
  }
  for (const auto& word : words)
    if (word.ends_with("readconfig") || word.find("events=") != std::string::npos ||
        word.find("/dev/") != std::string::npos)
      return 0;  // reads files
  const auto parsed = limen::qemu::parse_command_line("fuzz", words);
  if (!parsed && parsed.error().message.empty()) std::abort();
  return 0;
}
