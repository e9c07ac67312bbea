#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "base/trace.h"
#include "cli/process.h"
#include "cli/programs.h"
#include "gdb/server.h"
#include "machine/machine.h"
#include "monitor/monitors.h"
#include "web/server.h"

namespace limen::cli {
namespace {

Result<int> run(const machine::MachineDescription& description,
                const qemu::ProcessOptions& options) {
  const auto& log = description.log;
  if (!log.events.empty()) {
    if (const auto& file = log.event_file.empty() ? log.file : log.event_file; !file.empty())
      LIMEN_TRY(trace::write_to(file));
    for (const auto& pattern : log.events) trace::choose(pattern);
  }
  Background background;
  if (options.daemonize) {
    for (const auto& character : description.characters)
      if (character.kind == machine::CharacterDescription::Kind::kStdio)
        return fail("cannot use stdio with -daemonize");
    if (description.display == machine::MachineDescription::Display::kCurses)
      return fail("curses display cannot be used with -daemonize");
    background = LIMEN_TRY(Background::enter());
  }
  std::unique_ptr<PidFile> pid_file;
  if (!options.pid_file.empty()) pid_file = LIMEN_TRY(PidFile::create(options.pid_file));
  auto machine = LIMEN_TRY(machine::Machine::create(description));
  auto monitors = LIMEN_TRY(monitor::Monitors::create(*machine));
  machine->displays().set_monitor(
      [&monitors](std::string_view line) { return monitors->execute(line); });
  std::unique_ptr<gdb::Server> debugger;
  if (!description.gdb.empty()) {
    // gdb's `monitor` is the human monitor, as in QEMU.
    auto created = gdb::Server::create(
        *machine, description.gdb,
        [&monitors](std::string_view command) { return monitors->execute(command); });
    if (!created) return fail("-gdb {}: {}", description.gdb, created.error().message);
    debugger = std::move(*created);
  }
  std::unique_ptr<web::Server> browser;
  if (description.web) browser = LIMEN_TRY(web::Server::create(*machine, *description.web));
  LIMEN_TRY(lock_memory(options));
  LIMEN_TRY(change_user(options));
  if (options.daemonize) LIMEN_TRY(background.ready());
  LIMEN_TRY(enter_sandbox(options));
  auto outcome = machine->run();
  browser.reset();
  debugger.reset();
  monitors.reset();
  // The terminal is put back before anything more is printed.
  machine.reset();
  return outcome;
}

}  // namespace

int complain(std::string_view program, const Error& error) {
  fmt::print(stderr, "{}{}: error: {}\n", log::timestamp(), program, error.message);
  return 1;
}

int run_machine(const std::string& program, const machine::MachineDescription& description,
                const qemu::ProcessOptions& options) {
  log::set_timestamps(options.timestamps);
  const auto outcome = run(description, options);
  if (!outcome) return complain(program, outcome.error());
  return *outcome;
}

}  // namespace limen::cli
