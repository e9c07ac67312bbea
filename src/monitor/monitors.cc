#include "monitor/monitors.h"

#include "machine/board.h"
#include "virtio/balloon/balloon.h"

namespace limen::monitor {

Result<std::unique_ptr<Monitors>> Monitors::create(machine::Machine& machine) {
  auto monitors = std::make_unique<Monitors>(machine);
  if (auto* balloon = machine.board() != nullptr ? machine.board()->balloon() : nullptr)
    balloon->set_listener([&machine](uint64_t actual) {
      machine.events().post("BALLOON_CHANGE", {{"actual", actual}});
    });
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

std::string Monitors::execute(std::string_view command) {
  auto text = debugger_.execute(command);
  std::erase(text, '\r');
  return text;
}

}  // namespace limen::monitor
