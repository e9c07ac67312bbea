// All monitors of a machine.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "monitor/hmp/human_monitor.h"
#include "monitor/qmp/qmp_monitor.h"

namespace limen::monitor {

class Monitors {
 public:
  /// One per monitor of the machine's description. The machine outlives them. Before it runs.
  static Result<std::unique_ptr<Monitors>> create(machine::Machine& machine);

 private:
  Shared shared_;
  std::vector<std::unique_ptr<QmpMonitor>> control_;
  std::vector<std::unique_ptr<HumanMonitor>> human_;
};

}  // namespace limen::monitor
