// The human monitor, for programs.
#include "machine/machine.h"
#include "monitor/hmp/interpreter.h"
#include "monitor/qmp/command_table.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kHumanSchema = R"(
command human-monitor-command { command-line: str, *cpu-index: int } -> str
)";

Reply human_monitor_command(Context& context, const Json& arguments) {
  HumanInterpreter interpreter(context.machine, context.shared);
  if (const auto index = arguments.find("cpu-index"); index != arguments.end())
    if (auto chosen = interpreter.choose_processor(index->get<int64_t>()); !chosen)
      return failure("GenericError", "Parameter 'cpu-index' expects a CPU number");
  return Json(interpreter.execute(arguments["command-line"].get<std::string>()));
}

}  // namespace

CommandGroup human_commands() {
  return {kHumanSchema, {{"human-monitor-command", human_monitor_command}}};
}

}  // namespace limen::monitor
