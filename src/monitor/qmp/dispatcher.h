// From a message of a client's to the answer that it gets.
#pragma once

#include <string>

#include "monitor/qmp/command_table.h"
#include "monitor/qmp/descriptor_store.h"
#include "monitor/shared.h"

namespace limen::monitor {

/// What one client may do, and what becomes of what it sends.
class Dispatcher {
 public:
  Dispatcher(machine::Machine& machine, Shared& shared,
             const CommandTable& table = CommandTable::all());

  /// The first line of a connection; what follows must begin with qmp_capabilities.
  Json greet();
  /// The answer to one message, or to the failure to read one.
  Json answer(const Result<std::string>& message);
  /// True once the client has been let in: it gets events.
  [[nodiscard]] bool negotiated() const { return negotiated_; }
  [[nodiscard]] DescriptorStore& descriptors() { return descriptors_; }

  static Json error(const std::string& error_class, const std::string& description);
  /// {"qemu": {...}, "package": ...}
  static Json version();

 private:
  Json execute(const Json& request);
  Reply run(const std::string& command, bool out_of_band, const Json& arguments);
  Reply negotiate(const Json& arguments);

  machine::Machine& machine_;
  Shared& shared_;
  const CommandTable& table_;
  DescriptorStore descriptors_;
  bool negotiated_ = false;
  bool out_of_band_ = false;
};

}  // namespace limen::monitor
