// QEMU's object model, and objects that are made at run time.
#include <unistd.h>

#include <algorithm>

#include "machine/board.h"
#include "machine/device_catalog.h"
#include "machine/machine.h"
#include "machine/objects.h"
#include "monitor/object_tree.h"
#include "monitor/qmp/command_table.h"
#include "net/json_parameters.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kObjectSchema = R"(
struct ObjectPropertyInfo { name: str, type: str, *description: str, *default-value: any }
command qom-list { path: str } -> [ObjectPropertyInfo]
command qom-get { path: str, property: str } -> any
command qom-set { path: str, property: str, value: any }
struct ObjectTypeInfo { name: str, *abstract: bool, *parent: str }
command qom-list-types { *implements: str, *abstract: bool } -> [ObjectTypeInfo]
command qom-list-properties { typename: str } -> [ObjectPropertyInfo]
command device-list-properties { typename: str } -> [ObjectPropertyInfo]

enum ObjectType { iothread, memory-backend-file, memory-backend-memfd, memory-backend-ram,
  rng-builtin, rng-random, secret, throttle-group, tls-creds-anon, tls-creds-x509 }
struct RngRandomProperties { *filename: str }
struct IothreadProperties { *poll-max-ns: int, *poll-grow: int, *poll-shrink: int,
  *aio-max-batch: int, *thread-pool-min: int, *thread-pool-max: int }
struct MemoryBackendProperties { *dump: bool, *merge: bool, *prealloc: bool,
  *prealloc-threads: uint, *share: bool, *reserve: bool, size: uint,
  *x-use-canonical-path-for-ramblock-id: bool }
struct MemoryBackendFileProperties { *dump: bool, *merge: bool, *prealloc: bool,
  *prealloc-threads: uint, *share: bool, *reserve: bool, size: uint,
  *x-use-canonical-path-for-ramblock-id: bool, *discard-data: bool, mem-path: str }
struct MemoryBackendMemfdProperties { *dump: bool, *merge: bool, *prealloc: bool,
  *prealloc-threads: uint, *share: bool, *reserve: bool, size: uint,
  *x-use-canonical-path-for-ramblock-id: bool, *hugetlb: bool, *hugetlbsize: uint,
  *seal: bool }
enum QCryptoSecretFormat { raw, base64 }
struct SecretProperties { *data: str, *file: str, *format: QCryptoSecretFormat, *keyid: str,
  *iv: str }
enum QCryptoTLSCredsEndpoint { client, server }
struct TlsCredsProperties { *dir: str, *endpoint: QCryptoTLSCredsEndpoint, *verify-peer: bool,
  *priority: str, *sanity-check: bool }
struct ThrottleLimits { *iops-total: int, *iops-total-max: int, *iops-total-max-length: int,
  *iops-read: int, *iops-read-max: int, *iops-read-max-length: int, *iops-write: int,
  *iops-write-max: int, *iops-write-max-length: int, *bps-total: int, *bps-total-max: int,
  *bps-total-max-length: int, *bps-read: int, *bps-read-max: int, *bps-read-max-length: int,
  *bps-write: int, *bps-write-max: int, *bps-write-max-length: int, *iops-size: int }
struct ThrottleGroupProperties { *limits: ThrottleLimits }
union ObjectOptions { qom-type: ObjectType, id: str } on qom-type { iothread: IothreadProperties,
  memory-backend-file: MemoryBackendFileProperties,
  memory-backend-memfd: MemoryBackendMemfdProperties, memory-backend-ram: MemoryBackendProperties,
  rng-random: RngRandomProperties, secret: SecretProperties,
  throttle-group: ThrottleGroupProperties, tls-creds-anon: TlsCredsProperties,
  tls-creds-x509: TlsCredsProperties }
command object-add ObjectOptions
command object-del { id: str }

struct IOThreadInfo { id: str, thread-id: int, poll-max-ns: int, poll-grow: int, poll-shrink: int,
  aio-max-batch: int }
command query-iothreads -> [IOThreadInfo]
enum HostMemPolicy { default, preferred, bind, interleave }
struct Memdev { *id: str, size: uint, merge: bool, dump: bool, prealloc: bool, share: bool,
  *reserve: bool, host-nodes: [int], policy: HostMemPolicy }
command query-memdev -> [Memdev]
)";

std::expected<Object, Failure> object_at(Context& context, const Json& arguments) {
  const std::string path = arguments["path"];
  auto object = find_object(context.machine, path);
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

/// What -device or -object takes for a type; nothing for what is neither.
Json catalog_properties(const std::string& type) {
  Json all = Json::array();
  if (const auto part = chipset_properties().find(type); part != chipset_properties().end()) {
    for (const auto& property : part->second)
      all.push_back({{"name", property}, {"type", "uint8"}, {"default-value", 0}});
    return all;
  }
  const auto* device = machine::find_device(type);
  const auto* object = machine::find_object_type(type);
  if (device == nullptr && object == nullptr) return all;
  for (const auto& property : device != nullptr ? device->properties : object->properties) {
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
  if (std::ranges::find(types, type, &TypeInfo::name) == types.end())
    return failure("DeviceNotFound", "Class '{}' not found", type);
  Json all = catalog_properties(type);
  all.insert(all.begin(), Json{{"name", "type"}, {"type", "string"}});
  return all;
}

Reply device_list_properties(Context&, const Json& arguments) {
  const std::string type = arguments["typename"];
  if (machine::find_device(type) == nullptr && !chipset_properties().contains(type))
    return failure("DeviceNotFound", "Device '{}' not found", type);
  return catalog_properties(type);
}

Reply object_add(Context& context, const Json& arguments) {
  machine::ObjectDescription object;
  const auto properties = net::json_parameters(arguments);
  if (!properties) return std::unexpected(Failure(properties.error()));
  for (const auto& [name, value] : *properties) {
    if (name == "qom-type")
      object.type = value;
    else if (name == "id")
      object.id = value;
    else
      object.properties[name] = value;
  }
  if (auto added = context.machine.add_object(object); !added)
    return std::unexpected(Failure(std::move(added).error()));
  return nothing();
}

Reply object_del(Context& context, const Json& arguments) {
  if (auto removed = context.machine.remove_object(arguments["id"]); !removed)
    return std::unexpected(Failure(std::move(removed).error()));
  return nothing();
}

Reply query_iothreads(Context& context, const Json&) {
  Json all = Json::array();
  if (context.machine.board() == nullptr) return all;
  for (const auto& each : context.machine.board()->io_threads()) {
    int64_t number = 0;
    each.thread->run_there([&] { number = ::gettid(); });
    const auto& objects = context.machine.objects();
    const auto object = std::ranges::find(objects, each.id, &machine::ObjectDescription::id);
    const auto value = [&](const char* name) {
      const auto found = object->properties.find(name);
      return found == object->properties.end() ? uint64_t{0}
                                               : machine::parse_number(found->second).value_or(0);
    };
    all.push_back({{"id", each.id},
                   {"thread-id", number},
                   {"poll-max-ns", value("poll-max-ns")},
                   {"poll-grow", value("poll-grow")},
                   {"poll-shrink", value("poll-shrink")},
                   {"aio-max-batch", value("aio-max-batch")}});
  }
  return all;
}

Reply query_memdev(Context& context, const Json&) {
  Json all = Json::array();
  for (const auto& object : context.machine.objects()) {
    if (!machine::is_memory_backend(object.type)) continue;
    const auto backend = machine::memory_backend(object);
    all.push_back({{"id", object.id},
                   {"size", backend.size},
                   {"merge", backend.merge},
                   {"dump", backend.dump},
                   {"prealloc", backend.prealloc},
                   {"share", backend.share},
                   {"reserve", backend.reserve},
                   {"host-nodes", Json::array()},
                   {"policy", "default"}});
  }
  return all;
}

}  // namespace

CommandGroup object_commands() {
  return {kObjectSchema,
          {{"qom-list", qom_list},
           {"qom-get", qom_get},
           {"qom-set", qom_set},
           {"qom-list-types", qom_list_types},
           {"qom-list-properties", qom_list_properties},
           {"device-list-properties", device_list_properties},
           {"object-add", object_add},
           {"object-del", object_del},
           {"query-iothreads", query_iothreads},
           {"query-memdev", query_memdev}}};
}

}  // namespace limen::monitor
