#include <fmt/format.h>

#include <cstdio>

#include "cli/programs.h"
#include "machine/machine.h"

namespace limen::cli {

int complain(std::string_view program, const Error& error) {
  fmt::print(stderr, "{}: error: {}\n", program, error.message);
  return 1;
}

int run_machine(const std::string& program, const machine::MachineDescription& description) {
  auto machine = machine::Machine::create(description);
  if (!machine) return complain(program, machine.error());
  const auto outcome = (*machine)->run();
  // The terminal is put back before anything more is printed.
  machine->reset();
  if (!outcome) return complain(program, outcome.error());
  return *outcome;
}

}  // namespace limen::cli
