#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "cli/programs.h"
#include "gdb/server.h"
#include "machine/machine.h"

namespace limen::cli {

int complain(std::string_view program, const Error& error) {
  fmt::print(stderr, "{}: error: {}\n", program, error.message);
  return 1;
}

int run_machine(const std::string& program, const machine::MachineDescription& description) {
  auto machine = machine::Machine::create(description);
  if (!machine) return complain(program, machine.error());
  std::unique_ptr<gdb::Server> debugger;
  if (!description.gdb.empty()) {
    auto created = gdb::Server::create(**machine, description.gdb);
    if (!created)
      return complain(program, {"-gdb " + description.gdb + ": " + created.error().message});
    debugger = std::move(*created);
  }
  const auto outcome = (*machine)->run();
  debugger.reset();
  // The terminal is put back before anything more is printed.
  machine->reset();
  if (!outcome) return complain(program, outcome.error());
  return *outcome;
}

}  // namespace limen::cli
