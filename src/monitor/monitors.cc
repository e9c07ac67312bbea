#include "monitor/monitors.h"

namespace limen::monitor {

Result<std::unique_ptr<Monitors>> Monitors::create(machine::Machine& machine) {
  auto monitors = std::make_unique<Monitors>();
  for (const auto& monitor : machine.description().monitors) {
    auto* backend = LIMEN_TRY(machine.characters().take(monitor.character));
    if (monitor.control)
      monitors->control_.push_back(
          std::make_unique<QmpMonitor>(machine, monitors->shared_, *backend, monitor.pretty));
    else
      monitors->human_.push_back(
          std::make_unique<HumanMonitor>(machine, monitors->shared_, *backend));
  }
  return monitors;
}

}  // namespace limen::monitor
