// -object: random sources, secrets, memory, and (in builder_block.cc) what belongs to disks.
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

Result<const ObjectSpecification*> type_named(const std::string& name) {
  if (const auto* type = machine::find_object_type(name)) return type;
  std::vector<std::string_view> names;
  for (const auto& type : machine::object_catalog()) names.push_back(type.type);
  return fail("Parameter 'qom-type' does not accept value '{}'{}", name, choice_hint(name, names));
}

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
  const auto* type = LIMEN_TRY(type_named(name->get<std::string>()));
  return key_values_of(json, [&](std::string_view member) { return member_type(*type, member); });
}

}  // namespace

bool Builder::has_object(std::string_view id) const {
  const auto has = [&](const auto& things) {
    return std::ranges::any_of(things, [&](const auto& thing) { return thing.id == id; });
  };
  const auto& machine = result_.machine;
  return has(machine.objects) || has(machine.entropy_sources) || has(machine.io_threads) ||
         has(machine.throttle_groups);
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
  const auto* type = LIMEN_TRY(type_named(values.text("qom-type")));
  const auto id = values.text("id");
  if (id.empty()) return fail("Parameter 'id' is missing");
  if (has_object(id))
    return fail("attempt to add duplicate property '{}' to object (type 'container')", id);
  if (is_block_object(type->type)) return block_object(values);
  ObjectDescription object{.type = std::string(type->type), .id = id, .properties = {}};
  for (const auto& [key, value] : values.pairs()) {
    if (key == "qom-type" || key == "id") continue;
    if (!object.properties.emplace(key, value).second)
      return fail("property '{}' is given twice", key);
  }
  LIMEN_TRY(machine::check_object(object));
  if (object.type.starts_with("rng-"))
    result_.machine.entropy_sources.push_back({.id = id, .type = object.type});
  else
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
    return fail("'{}' is not a memory backend, but a {}", id, found->type);
  const auto size = machine::memory_backend(*found).size;
  if (memory_chosen_ && machine.memory_bytes != size)
    return fail(
        "Size specified by -m option must match size of explicitly specified 'memory-backend' "
        "property");
  machine.memory_bytes = size;
  return {};
}

}  // namespace limen::qemu
