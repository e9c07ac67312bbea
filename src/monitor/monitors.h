// All monitors of a machine.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "monitor/hmp/human_monitor.h"
#include "monitor/qmp/qmp_monitor.h"

namespace limen::monitor {

class Monitors {
 public:
  /// One per monitor of the machine's description. The machine outlives them. Before it runs.
  static Result<std::unique_ptr<Monitors>> create(machine::Machine& machine);

  explicit Monitors(machine::Machine& machine) : debugger_(machine, shared_) {}
  /// Carries out a command of the human monitor's for a client that is none: what it prints, its
  /// lines ended by "\n" alone.
  std::string execute(std::string_view command);

 private:
  Shared shared_;
  HumanInterpreter debugger_;  ///< Of execute().
  std::vector<std::unique_ptr<QmpMonitor>> control_;
  std::vector<std::unique_ptr<HumanMonitor>> human_;
};

}  // namespace limen::monitor
