#include "qemu/json_options.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "monitor/qmp/json_text.h"

namespace limen::qemu {
namespace {

using Json = nlohmann::json;
using Pairs = std::vector<std::pair<std::string, std::string>>;
using TypeOf = std::function<std::optional<JsonType>(std::string_view name)>;

Result<std::string> scalar_text(const Json& value, const std::string& path, JsonType type) {
  const auto wrong = [&](std::string_view expected) {
    return fail("Invalid parameter type for '{}', expected: {}", path, expected);
  };
  switch (type) {
    case JsonType::kText:
      if (!value.is_string()) return wrong("string");
      return value.get<std::string>();
    case JsonType::kBoolean:
      if (!value.is_boolean()) return wrong("boolean");
      return std::string(value.get<bool>() ? "on" : "off");
    case JsonType::kNumber:
      if (!value.is_number_integer()) return wrong("integer");
      break;
  }
  return value.dump();
}

Result<> flatten(const Json& value, const std::string& path, const TypeOf& type_of, Pairs& into) {
  if (value.is_object()) {
    for (const auto& [name, member] : value.items())
      LIMEN_TRY(
          flatten(member, path.empty() ? name : fmt::format("{}.{}", path, name), type_of, into));
    return {};
  }
  const auto type = type_of(path);
  if (!type) return fail("Parameter '{}' is unexpected", path);
  if (value.is_array()) {
    for (const auto& item : value)
      into.emplace_back(path, LIMEN_TRY(scalar_text(item, path, *type)));
    return {};
  }
  into.emplace_back(path, LIMEN_TRY(scalar_text(value, path, *type)));
  return {};
}

}  // namespace

Result<Json> parse_json_option(const std::string& argument) {
  auto json = LIMEN_TRY(monitor::parse_json(argument));
  if (!json.is_object()) return fail("Invalid JSON syntax");
  return json;
}

Result<KeyValues> key_values_of(const Json& object, const TypeOf& type_of) {
  Pairs pairs;
  LIMEN_TRY(flatten(object, "", type_of, pairs));
  return KeyValues(std::move(pairs));
}

Result<KeyValues> read_texts(const std::string& argument, std::string_view implied_key) {
  if (!is_json(argument)) return KeyValues::parse(argument, implied_key);
  return key_values_of(LIMEN_TRY(parse_json_option(argument)),
                       [](std::string_view) { return std::optional(JsonType::kText); });
}

}  // namespace limen::qemu
