// The one description of what QMP takes and gives: types, commands and events.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace limen::monitor {

struct Type;

struct Member {
  std::string name;
  const Type* type = nullptr;
  bool optional = false;
};

struct Type {
  enum class Kind : uint8_t { kBuiltin, kEnum, kArray, kObject, kAlternate };
  Kind kind = Kind::kBuiltin;
  std::string name;
  std::vector<std::string> values;  ///< kEnum.
  const Type* element = nullptr;    ///< kArray.
  std::vector<Member> members;      ///< kObject.
  std::string tag;                  ///< kObject: the member whose value adds members; "": none.
  std::vector<std::pair<std::string, const Type*>> variants;
  std::vector<const Type*> choices;  ///< kAlternate: told apart by the kind of JSON value.
};

struct CommandSchema {
  std::string name;
  const Type* arguments = nullptr;
  const Type* result = nullptr;
  std::vector<std::string> features;
  bool allow_oob = false;  ///< May be run with exec-oob.
  bool open = false;       ///< Takes arguments that are not among the described, too.
};

struct EventSchema {
  std::string name;
  const Type* data = nullptr;
};

/// Read from texts of this form, in which `#` begins a comment and a type may be used before it is
/// written down:
///
///     enum NAME { value, value }
///     struct NAME { member: TYPE, *optional: TYPE }
///     union NAME { member: TYPE, tag: ENUM } on tag { value: STRUCT, value: STRUCT }
///     alternate NAME { TYPE, TYPE }
///     command NAME { argument: TYPE, *optional: TYPE } -> TYPE [feature oob open]
///     command NAME NAMED_STRUCT
///     event NAME { member: TYPE }
///
/// TYPE is a name, [TYPE], or one of str, int, uint, number, bool, null, any.
class Schema {
 public:
  /// Errors name the word and what was expected.
  static Result<std::unique_ptr<Schema>> parse(std::span<const std::string_view> texts);
  ~Schema();

  [[nodiscard]] const CommandSchema* find_command(std::string_view name) const;
  [[nodiscard]] const std::vector<CommandSchema>& commands() const { return commands_; }
  [[nodiscard]] const std::vector<EventSchema>& events() const { return events_; }
  [[nodiscard]] const EventSchema* find_event(std::string_view name) const;

  /// What query-qmp-schema returns.
  [[nodiscard]] nlohmann::json introspect() const;

 private:
  friend class SchemaParser;
  Schema() = default;
  std::map<std::string, std::unique_ptr<Type>, std::less<>> types_;
  std::vector<CommandSchema> commands_;
  std::vector<EventSchema> events_;
};

/// Whether `value` is one of `type`; errors are worded as QEMU's. `path`: what the value is called
/// in them, as in "backend.data.addr"; "" for all arguments of a command.
Result<> check_value(const Type& type, const nlohmann::json& value, const std::string& path);
/// The same of a command's arguments; of an open one's only those that are described.
Result<> check_arguments(const CommandSchema& command, const nlohmann::json& arguments);

}  // namespace limen::monitor
