// QEMU's object model, and objects that are made at run time.
#include <algorithm>

#include "machine/device_catalog.h"
#include "machine/machine.h"
#include "monitor/object_tree.h"
#include "monitor/qmp/command_table.h"
#include "monitor/shared.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kSchema = R"(
struct ObjectPropertyInfo { name: str, type: str, *description: str, *default-value: any }
command qom-list { path: str } -> [ObjectPropertyInfo]
command qom-get { path: str, property: str } -> any
command qom-set { path: str, property: str, value: any }
struct ObjectTypeInfo { name: str, *abstract: bool, *parent: str }
command qom-list-types { *implements: str, *abstract: bool } -> [ObjectTypeInfo]
command qom-list-properties { typename: str } -> [ObjectPropertyInfo]
command device-list-properties { typename: str } -> [ObjectPropertyInfo]

enum ObjectType { rng-builtin, rng-random }
struct RngRandomProperties { *filename: str }
union ObjectOptions { qom-type: ObjectType, id: str } on qom-type { rng-random: RngRandomProperties }
command object-add ObjectOptions
command object-del { id: str }

struct IOThreadInfo { id: str, thread-id: int }
command query-iothreads -> [IOThreadInfo]
)";

std::expected<Object, Failure> object_at(Context& context, const Json& arguments) {
  const std::string path = arguments["path"];
  auto object = find_object(context.machine, context.shared, path);
  if (!object) return failure("DeviceNotFound", "Device '{}' not found", path);
  return std::move(*object);
}

Reply qom_list(Context& context, const Json& arguments) {
  const auto object = object_at(context, arguments);
  if (!object) return std::unexpected(object.error());
  Json all = Json::array();
  for (const auto& property : object->properties)
    all.push_back({{"name", property.name}, {"type", property.type}});
  return all;
}

Reply qom_get(Context& context, const Json& arguments) {
  const auto object = object_at(context, arguments);
  if (!object) return std::unexpected(object.error());
  const std::string name = arguments["property"];
  for (const auto& property : object->properties) {
    if (property.name != name) continue;
    // An object below is its path.
    if (property.type.starts_with("child<")) {
      std::string path = arguments["path"];
      if (!path.ends_with('/')) path += '/';
      return Json(path + name);
    }
    return property.value;
  }
  return failure("GenericError", "Property '{}.{}' not found", object->type, name);
}

Reply qom_set(Context& context, const Json& arguments) {
  const auto object = object_at(context, arguments);
  if (!object) return std::unexpected(object.error());
  const std::string name = arguments["property"];
  if (std::ranges::find(object->properties, name, &ObjectProperty::name) ==
      object->properties.end())
    return failure("GenericError", "Property '{}.{}' not found", object->type, name);
  // What a device is, it is from the start.
  return failure("GenericError", "Attempt to set property '{}' of '{}': it cannot be changed", name,
                 object->type);
}

Reply qom_list_types(Context&, const Json& arguments) {
  const auto types = object_types();
  const std::string wanted = arguments.value("implements", "object");
  const bool abstract = arguments.value("abstract", true);
  Json all = Json::array();
  for (const auto& type : types) {
    if (type.abstract && !abstract) continue;
    if (!is_a(types, type.name, wanted)) continue;
    Json each = {{"name", type.name}};
    if (type.abstract) each["abstract"] = true;
    if (!type.parent.empty()) each["parent"] = type.parent;
    all.push_back(std::move(each));
  }
  return all;
}

/// What -device takes for a type; nothing for what is no device.
Json catalog_properties(const std::string& type) {
  Json all = Json::array();
  const auto* device = machine::find_device(type);
  if (device == nullptr) return all;
  for (const auto& property : device->properties) {
    const char* kind = property.type == machine::PropertyType::kBoolean  ? "bool"
                       : property.type == machine::PropertyType::kNumber ? "uint64"
                                                                         : "str";
    all.push_back({{"name", property.name}, {"type", kind}, {"description", property.help}});
  }
  return all;
}

Reply qom_list_properties(Context&, const Json& arguments) {
  const std::string type = arguments["typename"];
  const auto types = object_types();
  // A management program asks for this one without asking whether it is there, and takes a refusal
  // badly.
  const bool known = type == "memory-backend-file" ||
                     std::ranges::find(types, type, &TypeInfo::name) != types.end();
  if (!known) return failure("DeviceNotFound", "Class '{}' not found", type);
  Json all = catalog_properties(type);
  all.insert(all.begin(), Json{{"name", "type"}, {"type", "string"}});
  return all;
}

Reply device_list_properties(Context&, const Json& arguments) {
  const std::string type = arguments["typename"];
  if (machine::find_device(type) == nullptr)
    return failure("DeviceNotFound", "Device '{}' not found", type);
  return catalog_properties(type);
}

bool object_exists(Context& context, const std::string& id) {
  const auto& sources = context.machine.description().entropy_sources;
  return context.shared.objects.contains(id) ||
         std::ranges::any_of(sources, [&](const auto& source) { return source.id == id; });
}

Reply object_add(Context& context, const Json& arguments) {
  const std::string id = arguments["id"];
  if (object_exists(context, id))
    return failure("GenericError",
                   "attempt to add duplicate property '{}' to object (type 'container')", id);
  const auto file = arguments.value("filename", "/dev/urandom");
  if (file != "/dev/urandom" && file != "/dev/random")
    return failure("GenericError", "Parameter 'filename' does not accept value '{}'", file);
  context.shared.objects[id] = arguments["qom-type"];
  return nothing();
}

Reply object_del(Context& context, const Json& arguments) {
  const std::string id = arguments["id"];
  if (context.shared.objects.erase(id) != 0) return nothing();
  if (object_exists(context, id))
    return failure("GenericError", "object '{}' is in use, can not be deleted", id);
  return failure("GenericError", "object '{}' not found", id);
}

Reply query_iothreads(Context&, const Json&) { return Json::array(); }

}  // namespace

CommandGroup object_commands() {
  return {kSchema,
          {{"qom-list", qom_list},
           {"qom-get", qom_get},
           {"qom-set", qom_set},
           {"qom-list-types", qom_list_types},
           {"qom-list-properties", qom_list_properties},
           {"device-list-properties", device_list_properties},
           {"object-add", object_add},
           {"object-del", object_del},
           {"query-iothreads", query_iothreads}}};
}

}  // namespace limen::monitor
