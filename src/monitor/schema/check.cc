// Whether a value is what the schema says, in QEMU's words.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "monitor/schema/schema.h"

namespace limen::monitor {
namespace {

using Json = nlohmann::json;

std::unexpected<Error> wrong_type(const std::string& path, std::string_view expected) {
  return fail("Invalid parameter type for '{}', expected: {}", path.empty() ? "arguments" : path,
              expected);
}

Result<> check_builtin(const Type& type, const Json& value, const std::string& path) {
  if (type.name == "str") {
    if (!value.is_string()) return wrong_type(path, "string");
  } else if (type.name == "bool") {
    if (!value.is_boolean()) return wrong_type(path, "boolean");
  } else if (type.name == "int" || type.name == "uint") {
    if (!value.is_number_integer()) return wrong_type(path, "integer");
    if (type.name == "uint" && !value.is_number_unsigned() && value.get<int64_t>() < 0)
      return fail("Parameter '{}' expects a non-negative integer", path);
    if (type.name == "int" && value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX)
      return wrong_type(path, "integer");
  } else if (type.name == "null") {
    if (!value.is_null()) return wrong_type(path, "null");
  } else if (type.name == "number") {
    if (!value.is_number()) return wrong_type(path, "number");
  }
  return {};
}

Result<> check_member(const Member& member, const Json& object, const std::string& path) {
  const auto full = path.empty() ? member.name : path + "." + member.name;
  const auto found = object.find(member.name);
  if (found != object.end()) return check_value(*member.type, *found, full);
  if (member.optional) return {};
  return fail("Parameter '{}' is missing", full);
}

const Type* variant_of(const Type& type, const Json& object) {
  if (type.tag.empty()) return nullptr;
  const auto tag = object.find(type.tag);
  if (tag == object.end() || !tag->is_string()) return nullptr;
  const auto found = std::ranges::find(type.variants, tag->get<std::string>(),
                                       [](const auto& variant) { return variant.first; });
  return found == type.variants.end() ? nullptr : found->second;
}

/// Whether a value of this kind of JSON can be one of the type.
bool can_be(const Type& type, const Json& value) {
  switch (type.kind) {
    case Type::Kind::kObject:
      return value.is_object();
    case Type::Kind::kArray:
      return value.is_array();
    case Type::Kind::kEnum:
      return value.is_string();
    default:
      return check_builtin(type, value, "").has_value();
  }
}

Result<> check_object(const Type& type, const Json& value, const std::string& path) {
  if (!value.is_object()) return wrong_type(path, "object");
  for (const auto& member : type.members) LIMEN_TRY(check_member(member, value, path));
  const Type* variant = variant_of(type, value);
  if (variant != nullptr)
    for (const auto& member : variant->members) LIMEN_TRY(check_member(member, value, path));
  const auto known = [](const Type* object, const std::string& name) {
    return object != nullptr && std::ranges::any_of(object->members, [&](const Member& member) {
             return member.name == name;
           });
  };
  for (const auto& [name, ignored] : value.items())
    if (!known(&type, name) && !known(variant, name))
      return fail("Parameter '{}{}{}' is unexpected", path, path.empty() ? "" : ".", name);
  return {};
}

}  // namespace

Result<> check_value(const Type& type, const Json& value, const std::string& path) {
  switch (type.kind) {
    case Type::Kind::kBuiltin:
      return check_builtin(type, value, path);
    case Type::Kind::kEnum:
      if (!value.is_string()) return wrong_type(path, "string");
      if (std::ranges::find(type.values, value.get<std::string>()) == type.values.end())
        return fail("Parameter '{}' does not accept value '{}'", path, value.get<std::string>());
      return {};
    case Type::Kind::kArray: {
      if (!value.is_array()) return wrong_type(path, "array");
      for (size_t i = 0; i < value.size(); ++i)
        LIMEN_TRY(check_value(*type.element, value[i], fmt::format("{}[{}]", path, i)));
      return {};
    }
    case Type::Kind::kObject:
      return check_object(type, value, path);
    case Type::Kind::kAlternate:
      for (const Type* choice : type.choices)
        if (can_be(*choice, value)) return check_value(*choice, value, path);
      return wrong_type(path, type.name);
  }
  return {};
}

Result<> check_arguments(const CommandSchema& command, const nlohmann::json& arguments) {
  if (!command.open) return check_value(*command.arguments, arguments, "");
  nlohmann::json some = nlohmann::json::object();
  for (const auto& member : command.arguments->members)
    if (const auto found = arguments.find(member.name); found != arguments.end())
      some[member.name] = *found;
  return check_value(*command.arguments, some, "");
}

}  // namespace limen::monitor
