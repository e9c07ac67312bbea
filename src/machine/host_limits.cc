#include "machine/host_limits.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>

namespace limen::machine {

uint64_t host_memory() {
  return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
         static_cast<uint64_t>(::sysconf(_SC_PAGE_SIZE));
}

std::string describe_size(uint64_t bytes) {
  constexpr std::array kUnits = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.4g} {}", value, kUnits[unit]);
}

Result<> check_memory(uint64_t bytes, uint64_t available) {
  if (bytes == 0) return fail("memory of 0 bytes: a machine needs memory, as in 512M or 2G");
  if (bytes > available)
    return fail("memory of {}: this host has {}", describe_size(bytes), describe_size(available));
  return {};
}

}  // namespace limen::machine
