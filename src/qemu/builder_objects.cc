// -object, and what refers to one.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/nearest.h"
#include "machine/objects.h"
#include "qemu/builder.h"
#include "qemu/json_options.h"
#include "qemu/key_values.h"

namespace limen::qemu {
namespace {

using machine::ObjectDescription;
using machine::ObjectSpecification;

std::optional<JsonType> member_type(const ObjectSpecification& type, std::string_view name) {
  if (name == "qom-type" || name == "id") return JsonType::kText;
  if (type.type == "throttle-group") {
    if (name.starts_with("limits.") || name.starts_with("x-")) return JsonType::kNumber;
    return std::nullopt;
  }
  const auto found =
      std::ranges::find(type.properties, name, &machine::PropertySpecification::name);
  if (found == type.properties.end()) return std::nullopt;
  // A size is a number with a unit only where it is text.
  if (name == "size" || found->type == machine::PropertyType::kNumber) return JsonType::kNumber;
  return found->type == machine::PropertyType::kBoolean ? JsonType::kBoolean : JsonType::kText;
}

Result<KeyValues> read_object(const std::string& argument) {
  if (!is_json(argument)) return KeyValues::parse(argument, "qom-type");
  const auto json = LIMEN_TRY(parse_json_option(argument));
  const auto name = json.find("qom-type");
  if (name == json.end()) return fail("Parameter 'qom-type' is missing");
  if (!name->is_string()) return fail("Invalid parameter type for 'qom-type', expected: string");
  const auto* type = LIMEN_TRY(machine::object_type(name->get<std::string>()));
  return key_values_of(json, [&](std::string_view member) { return member_type(*type, member); });
}

}  // namespace

Result<> Builder::find_object(std::string_view id, std::string_view type) const {
  std::vector<std::string_view> ids;
  for (const auto& object : result_.machine.objects) {
    if (!object.type.starts_with(type)) continue;
    if (object.id == id) return {};
    ids.push_back(object.id);
  }
  return fail("Device '{}' not found{}", id, choice_hint(id, ids));
}

Result<> Builder::object(const std::string& argument) {
  if (argument == "help" || argument == "?") {
    std::string text = "List of user creatable objects:\n";
    for (const auto& type : machine::object_catalog()) text += fmt::format("  {}\n", type.type);
    print(text);
    return {};
  }
  const auto values = LIMEN_TRY(read_object(argument));
  const auto* asked = machine::find_object_type(values.text("qom-type"));
  if (asked != nullptr && values.wants_help()) {
    std::string text = fmt::format("{} options:\n", asked->type);
    for (const auto& property : asked->properties)
      text += fmt::format("  {:<24} {}\n", property.name, property.help);
    print(text);
    return {};
  }
  if (!values.find("qom-type")) return fail("Parameter 'qom-type' is missing");
  const auto* type = LIMEN_TRY(machine::object_type(values.text("qom-type")));
  const auto id = values.text("id");
  if (id.empty()) return fail("Parameter 'id' is missing");
  if (std::ranges::find(result_.machine.objects, id, &ObjectDescription::id) !=
      result_.machine.objects.end())
    return fail("attempt to add duplicate property '{}' to object (type 'container')", id);
  ObjectDescription object{.type = std::string(type->type), .id = id, .properties = {}};
  for (const auto& [key, value] : values.pairs()) {
    if (key == "qom-type" || key == "id") continue;
    if (!object.properties.emplace(key, value).second)
      return fail("property '{}' is given twice", key);
  }
  LIMEN_TRY(machine::check_object(object));
  result_.machine.objects.push_back(std::move(object));
  return {};
}

/// -machine memory-backend=ID: the machine's memory is that object's.
Result<> Builder::finish_memory() {
  auto& machine = result_.machine;
  const auto& id = machine.memory_backend;
  if (id.empty()) return {};
  const auto found = std::ranges::find(machine.objects, id, &ObjectDescription::id);
  if (found == machine.objects.end()) return fail("Memory backend '{}' not found", id);
  if (!machine::is_memory_backend(found->type))
    return fail("'{}' is not a memory backend, but of type {}", id, found->type);
  const auto size = machine::memory_backend(*found).size;
  if (memory_chosen_ && machine.memory_bytes != size)
    return fail(
        "Size specified by -m option must match size of explicitly specified 'memory-backend' "
        "property");
  machine.memory_bytes = size;
  return {};
}

}  // namespace limen::qemu
