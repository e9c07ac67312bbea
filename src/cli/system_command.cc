// limen-system-x86_64: QEMU's command line.
#include <fmt/format.h>

#include <cstdio>

#include "cli/programs.h"
#include "qemu/command_line.h"

namespace limen::cli {

int system_main(const std::string& program, const std::vector<std::string>& arguments) {
  const auto parsed = qemu::parse_command_line(program, arguments);
  if (!parsed) return complain(program, parsed.error());
  if (parsed->print) {
    fmt::print("{}", *parsed->print);
    return 0;
  }
  return run_machine(program, parsed->machine, parsed->process);
}

}  // namespace limen::cli
