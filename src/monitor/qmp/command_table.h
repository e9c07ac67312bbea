// Which QMP commands there are: what they take and give, and who carries them out.
#pragma once

#include <expected>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "monitor/schema/schema.h"

namespace limen::machine {
class Machine;
}

namespace limen::monitor {

using Json = nlohmann::json;
class CommandTable;
class DescriptorStore;
struct Shared;

/// Why a command failed, as QMP has it.
struct Failure {
  std::string error_class = "GenericError";
  std::string description;

  explicit Failure(Error error) : description(std::move(error.message)) {}
  Failure(std::string kind, std::string text)
      : error_class(std::move(kind)), description(std::move(text)) {}
};
using Reply = std::expected<Json, Failure>;

template <typename... Arguments>
[[nodiscard]] std::unexpected<Failure> failure(std::string kind,
                                               fmt::format_string<Arguments...> format,
                                               Arguments&&... arguments) {
  return std::unexpected(
      Failure(std::move(kind), fmt::format(format, std::forward<Arguments>(arguments)...)));
}
[[nodiscard]] inline Reply nothing() { return Json::object(); }

/// What a command can work on.
struct Context {
  machine::Machine& machine;
  const CommandTable& table;
  DescriptorStore& descriptors;  ///< Of the client that asks.
  Shared& shared;
};

/// `arguments` are what the schema says.
using Handler = Reply (*)(Context& context, const Json& arguments);

struct CommandGroup {
  std::string_view schema;
  std::vector<std::pair<std::string_view, Handler>> handlers;
};

// One per file.
CommandGroup general_commands();
CommandGroup lifecycle_commands();
CommandGroup processor_commands();
CommandGroup memory_commands();
CommandGroup block_commands();
CommandGroup block_change_commands();
CommandGroup medium_commands();
CommandGroup character_commands();
CommandGroup device_commands();
CommandGroup object_commands();
CommandGroup network_commands();
CommandGroup pci_commands();
CommandGroup descriptor_commands();
CommandGroup input_commands();
CommandGroup vnc_commands();
CommandGroup human_commands();
CommandGroup display_commands();

class CommandTable {
 public:
  /// The table of all groups. It is checked: every command has a handler, and every handler a
  /// command.
  static const CommandTable& all();
  static Result<std::unique_ptr<CommandTable>> create(std::span<const CommandGroup> groups);

  [[nodiscard]] const Schema& schema() const { return *schema_; }
  [[nodiscard]] Handler handler(const std::string& command) const;

 private:
  std::unique_ptr<Schema> schema_;
  std::map<std::string, Handler, std::less<>> handlers_;
};

}  // namespace limen::monitor
