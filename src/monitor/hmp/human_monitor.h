// The human monitor on a character back end.
#pragma once

#include "device/character_backend.h"
#include "machine/machine.h"
#include "monitor/hmp/interpreter.h"
#include "monitor/hmp/line_editor.h"

namespace limen::monitor {

class HumanMonitor {
 public:
  /// All outlive the monitor.
  HumanMonitor(machine::Machine& machine, Shared& shared, device::CharacterBackend& backend);
  ~HumanMonitor();
  HumanMonitor(const HumanMonitor&) = delete;
  HumanMonitor& operator=(const HumanMonitor&) = delete;

 private:
  static constexpr size_t kBacklog = size_t{256} << 10;
  static constexpr size_t kMostOutput = size_t{64} << 20;

  void greet();
  void happened(device::CharacterEvent event);
  void write(std::string_view text);

  device::CharacterBackend& backend_;
  HumanInterpreter interpreter_;
  LineEditor editor_;
  bool greeted_ = false;
  bool shown_ = true;  // false while a multiplexer's keyboard is another front end's
};

}  // namespace limen::monitor
