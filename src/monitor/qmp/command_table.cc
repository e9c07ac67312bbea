#include "monitor/qmp/command_table.h"

#include <cstdlib>

#include "base/log.h"

namespace limen::monitor {

Result<std::unique_ptr<CommandTable>> CommandTable::create(std::span<const CommandGroup> groups) {
  auto table = std::make_unique<CommandTable>();
  std::vector<std::string_view> texts;
  for (const auto& group : groups) texts.push_back(group.schema);
  table->schema_ = LIMEN_TRY(Schema::parse(texts));
  for (const auto& group : groups)
    for (const auto& [name, handler] : group.handlers) {
      if (table->schema_->find_command(name) == nullptr)
        return fail("command '{}' has a handler and no schema", name);
      table->handlers_.emplace(name, handler);
    }
  for (const auto& command : table->schema_->commands())
    if (!table->handlers_.contains(command.name))
      return fail("command '{}' has a schema and no handler", command.name);
  return table;
}

const CommandTable& CommandTable::all() {
  static const std::unique_ptr<CommandTable> kTable = [] {
    const std::vector<CommandGroup> groups = {
        general_commands(), lifecycle_commands(),    processor_commands(), memory_commands(),
        block_commands(),   block_change_commands(), medium_commands(),    character_commands(),
        device_commands(),  object_commands(),       pci_commands(),       descriptor_commands(),
        human_commands(),   network_commands(),      input_commands(),     vnc_commands(),
        display_commands()};
    auto table = create(groups);
    if (!table) {
      log::error("{}", table.error().message);
      std::abort();  // found by every test
    }
    return std::move(*table);
  }();
  return *kTable;
}

Handler CommandTable::handler(const std::string& command) const {
  const auto found = handlers_.find(command);
  return found == handlers_.end() ? nullptr : found->second;
}

}  // namespace limen::monitor
