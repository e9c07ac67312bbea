// Any text as a file of -readconfig: it is read, and what it asks for is done or refused.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sstream>
#include <string>

#include "base/log.h"
#include "base/unique_fd.h"
#include "qemu/command_line.h"
#include "qemu/configuration_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  limen::log::set_level(limen::log::Level::kError);
  const std::string text(reinterpret_cast<const char*>(data), size);
  std::istringstream stream(text);
  const auto sections = limen::qemu::parse_configuration(stream);
  if (!sections) {
    if (!sections.error().message.starts_with("line ")) std::abort();
    return 0;
  }
  unsigned line = 0;
  for (const auto& section : *sections) {
    if (section.line <= line || section.group.empty()) std::abort();
    line = section.line;
    for (const auto& [key, value] : section.values)
      if (key.empty() || value.find_first_of("\"\n") != std::string::npos) std::abort();
  }
  if (text.find("/dev/") != std::string::npos) return 0;  // files that a secret is read from
  const limen::UniqueFd file(::memfd_create("configuration", MFD_CLOEXEC));
  if (!file.valid() || ::write(file.get(), data, size) != static_cast<ssize_t>(size)) return 0;
  const std::string words[] = {"-readconfig", "/proc/self/fd/" + std::to_string(file.get())};
  const auto parsed = limen::qemu::parse_command_line("fuzz", words);
  if (!parsed && parsed.error().message.empty()) std::abort();
  return 0;
}
