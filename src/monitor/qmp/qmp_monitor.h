// QMP on a character back end: one client at a time, who may go and another one come.
#pragma once

#include "device/character_backend.h"
#include "machine/machine.h"
#include "monitor/qmp/dispatcher.h"
#include "monitor/qmp/json_text.h"

namespace limen::monitor {

class QmpMonitor {
 public:
  /// All outlive the monitor.
  QmpMonitor(machine::Machine& machine, Shared& shared, device::CharacterBackend& backend,
             bool pretty);
  ~QmpMonitor();
  QmpMonitor(const QmpMonitor&) = delete;
  QmpMonitor& operator=(const QmpMonitor&) = delete;

 private:
  /// A client that does not read its answers gets no more, and is not read from.
  static constexpr size_t kBacklog = size_t{256} << 10;
  static constexpr size_t kMostOutput = size_t{64} << 20;

  void opened();
  void receive(std::span<const uint8_t> bytes);
  void send(const Json& message);

  machine::Machine& machine_;
  device::CharacterBackend& backend_;
  const bool pretty_;
  Dispatcher dispatcher_;
  JsonFramer framer_;
  unsigned listener_ = 0;
};

}  // namespace limen::monitor
