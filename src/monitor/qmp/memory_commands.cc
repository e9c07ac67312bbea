// The guest's memory: how much there is, and what is in it.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "machine/machine.h"
#include "monitor/guest_view.h"
#include "monitor/memory_files.h"
#include "monitor/qmp/command_table.h"
#include "monitor/qmp/descriptor_store.h"
#include "monitor/shared.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kMemorySchema = R"(
struct MemoryInfo { base-memory: uint, *plugged-memory: uint }
command query-memory-size-summary -> MemoryInfo
command query-memory-devices -> [any]
command memsave { val: uint, size: uint, filename: str, *cpu-index: int }
command pmemsave { val: uint, size: uint, filename: str }

enum DumpGuestMemoryFormat { elf }
command dump-guest-memory { paging: bool, protocol: str, *detach: bool, *begin: uint, *length: uint,
  *format: DumpGuestMemoryFormat }
struct DumpGuestMemoryCapability { formats: [DumpGuestMemoryFormat] }
command query-dump-guest-memory-capability -> DumpGuestMemoryCapability
enum DumpStatus { none, active, completed, failed }
struct DumpQueryResult { status: DumpStatus, completed: uint, total: uint }
command query-dump -> DumpQueryResult
event DUMP_COMPLETED { result: DumpQueryResult, *error: str }
)";

Reply query_memory_size_summary(Context& context, const Json&) {
  return Json{{"base-memory",
               context.machine.board() != nullptr ? context.machine.description().memory_bytes : 0},
              {"plugged-memory", 0}};
}

Reply query_memory_devices(Context&, const Json&) { return Json::array(); }

Reply memsave(Context& context, const Json& arguments) {
  auto& machine = context.machine;
  const int64_t index = arguments.value("cpu-index", int64_t{0});
  if (index < 0 || static_cast<size_t>(index) >= machine.processors().size())
    return failure("GenericError", "Parameter 'cpu-index' expects a CPU number");
  if (auto saved = save_linear_memory(machine, static_cast<unsigned>(index), arguments["val"],
                                      arguments["size"], arguments["filename"]);
      !saved)
    return std::unexpected(Failure(std::move(saved).error()));
  return nothing();
}

Reply pmemsave(Context& context, const Json& arguments) {
  if (auto saved = save_physical_memory(context.machine, arguments["val"], arguments["size"],
                                        arguments["filename"]);
      !saved)
    return std::unexpected(Failure(std::move(saved).error()));
  return nothing();
}

Json dump_result(const DumpJob& job) {
  constexpr std::array kNames = {"none", "active", "completed", "failed"};
  return {{"status", kNames[static_cast<size_t>(job.status())]},
          {"completed", job.completed()},
          {"total", job.total()}};
}

Result<UniqueFd> dump_target(Context& context, const std::string& protocol) {
  if (protocol.starts_with("fd:")) return context.descriptors.take(protocol.substr(3));
  if (!protocol.starts_with("file:")) return fail("Invalid parameter 'protocol'");
  const auto path = protocol.substr(5);
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR));
  if (!fd.valid()) return fail_errno(errno, fmt::format("Could not open '{}'", path));
  return fd;
}

Reply dump_guest_memory(Context& context, const Json& arguments) {
  auto& machine = context.machine;
  if (machine.board() == nullptr) return failure("GenericError", "this machine has no memory");
  if (context.shared.dump.status() == DumpJob::Status::kActive)
    return failure("GenericError", "There is a dump in process, please wait.");
  if (arguments.contains("begin") || arguments.contains("length"))
    return failure("GenericError", "Parameter 'begin' is not supported: a dump is of all memory");
  auto fd = dump_target(context, arguments["protocol"]);
  if (!fd) return std::unexpected(Failure(std::move(fd).error()));

  const bool was_running = machine::is_live(machine.run_state());
  if (was_running) machine.stop(machine::RunState::kPaused);
  DumpRequest request{.memory = machine.memory(), .paging = arguments["paging"]};
  for (auto& processor : machine.processors())
    request.processors.push_back(processor->vcpu().state());
  const auto finish = [&machine, &dump = context.shared.dump,
                       was_running](const Result<>& outcome) {
    Json data = {{"result", dump_result(dump)}};
    if (!outcome) data["error"] = outcome.error().message;
    machine.events().emit("DUMP_COMPLETED", data);
    if (!was_running) return;
    if (auto goes_on = machine.cont(); !goes_on) log::warning("{}", goes_on.error().message);
  };
  if (arguments.value("detach", false)) {
    context.shared.dump.start(
        std::move(*fd), std::move(request), [&machine, finish](Result<> outcome) {
          machine.loop().post([finish, outcome = std::move(outcome)] { finish(outcome); });
        });
    return nothing();
  }
  const auto outcome = context.shared.dump.run(std::move(*fd), request);
  finish(outcome);
  if (!outcome) return std::unexpected(Failure(outcome.error()));
  return nothing();
}

Reply query_dump_capability(Context&, const Json&) { return Json{{"formats", {"elf"}}}; }

Reply query_dump(Context& context, const Json&) { return dump_result(context.shared.dump); }

}  // namespace

CommandGroup memory_commands() {
  return {kMemorySchema,
          {{"query-memory-size-summary", query_memory_size_summary},
           {"query-memory-devices", query_memory_devices},
           {"memsave", memsave},
           {"pmemsave", pmemsave},
           {"dump-guest-memory", dump_guest_memory},
           {"query-dump-guest-memory-capability", query_dump_capability},
           {"query-dump", query_dump}}};
}

}  // namespace limen::monitor
