// -object: random sources, secrets, memory, and (in builder_block.cc) what belongs to disks.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/nearest.h"
#include "machine/device_catalog.h"
#include "qemu/builder.h"
#include "qemu/json_options.h"
#include "qemu/key_values.h"
#include "qemu/secret.h"

namespace limen::qemu {
namespace {

using machine::ObjectDescription;

struct Member {
  std::string_view name;
  JsonType type;
};
constexpr std::array kRandomMembers = {Member{"filename", JsonType::kText}};
constexpr std::array kIoThreadMembers = {
    Member{"poll-max-ns", JsonType::kNumber},     Member{"poll-grow", JsonType::kNumber},
    Member{"poll-shrink", JsonType::kNumber},     Member{"aio-max-batch", JsonType::kNumber},
    Member{"thread-pool-min", JsonType::kNumber}, Member{"thread-pool-max", JsonType::kNumber}};
constexpr std::array kSecretMembers = {
    Member{"data", JsonType::kText}, Member{"file", JsonType::kText},
    Member{"format", JsonType::kText}, Member{"keyid", JsonType::kText},
    Member{"iv", JsonType::kText}};
constexpr std::array kMemoryMembers = {
    Member{"size", JsonType::kNumber},      Member{"share", JsonType::kBoolean},
    Member{"prealloc", JsonType::kBoolean}, Member{"prealloc-threads", JsonType::kNumber},
    Member{"merge", JsonType::kBoolean},    Member{"dump", JsonType::kBoolean},
    Member{"reserve", JsonType::kBoolean}};

struct ObjectType {
  std::string_view name;
  std::span<const Member> members;
};
constexpr std::array kTypes = {
    ObjectType{"rng-random", kRandomMembers},
    ObjectType{"rng-builtin", {}},
    ObjectType{"iothread", kIoThreadMembers},
    ObjectType{"throttle-group", {}},
    ObjectType{"secret", kSecretMembers},
    ObjectType{"memory-backend-ram", kMemoryMembers},
    ObjectType{"memory-backend-memfd", kMemoryMembers},
};

Result<const ObjectType*> type_named(const std::string& name) {
  const auto found = std::ranges::find(kTypes, std::string_view(name), &ObjectType::name);
  if (found != kTypes.end()) return &*found;
  std::vector<std::string_view> names;
  names.reserve(kTypes.size());
  for (const auto& type : kTypes) names.push_back(type.name);
  return fail("Parameter 'qom-type' does not accept value '{}'{}", name, choice_hint(name, names));
}

std::optional<JsonType> member_type(const ObjectType& type, std::string_view name) {
  if (name == "qom-type" || name == "id") return JsonType::kText;
  if (type.name == "throttle-group") {
    if (name.starts_with("limits.") || name.starts_with("x-")) return JsonType::kNumber;
    return std::nullopt;
  }
  const auto found = std::ranges::find(type.members, name, &Member::name);
  return found == type.members.end() ? std::nullopt : std::optional(found->type);
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

/// What every memory back end here is anyway: shared anonymous memory of a file descriptor's.
Result<> check_memory(const KeyValues& values) {
  if (!values.find("size")) return fail("can't create backend with size 0");
  const uint64_t bytes = LIMEN_TRY(parse_size(values.text("size"), 1));
  if (bytes == 0) return fail("can't create backend with size 0");
  for (const auto* key : {"share", "prealloc", "merge", "dump", "reserve"})
    LIMEN_TRY(values.boolean(key, false));
  if (const auto threads = values.find("prealloc-threads"))
    if (LIMEN_TRY(machine::parse_number(*threads)) == 0)
      return fail("property 'prealloc-threads' of {} doesn't take value '0'",
                  values.text("qom-type"));
  return {};
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
    for (const auto& type : kTypes) text += fmt::format("  {}\n", type.name);
    print(text);
    return {};
  }
  const auto values = LIMEN_TRY(read_object(argument));
  if (!values.find("qom-type")) return fail("Parameter 'qom-type' is missing");
  const auto* type = LIMEN_TRY(type_named(values.text("qom-type")));
  const auto id = values.text("id");
  if (id.empty()) return fail("Parameter 'id' is missing");
  if (has_object(id))
    return fail("attempt to add duplicate property '{}' to object (type 'container')", id);
  if (is_block_object(type->name)) return block_object(values);
  std::vector<std::string_view> known = {"qom-type", "id"};
  for (const auto& member : type->members) known.push_back(member.name);
  LIMEN_TRY(values.check(known));
  if (type->name.starts_with("rng-")) {
    constexpr std::array<std::string_view, 2> kSources = {"/dev/urandom", "/dev/random"};
    LIMEN_TRY(values.choice("filename", kSources, ""));
    result_.machine.entropy_sources.push_back({id});
    return {};
  }
  if (type->name == "secret")
    LIMEN_TRY(load_secret(values));
  else
    LIMEN_TRY(check_memory(values));
  ObjectDescription object{.type = std::string(type->name), .id = id, .properties = {}};
  for (const auto& [key, value] : values.pairs())
    if (key != "qom-type" && key != "id") object.properties[key] = value;
  result_.machine.objects.push_back(std::move(object));
  return {};
}

/// -machine memory-backend=ID: the machine's memory is that object's.
Result<> Builder::finish_memory() {
  auto& machine = result_.machine;
  if (memory_backend_.empty()) return {};
  const auto found = std::ranges::find(machine.objects, memory_backend_, &ObjectDescription::id);
  if (found == machine.objects.end()) return fail("Memory backend '{}' not found", memory_backend_);
  if (!found->type.starts_with("memory-backend-"))
    return fail("'{}' is not a memory backend, but a {}", memory_backend_, found->type);
  const uint64_t bytes = LIMEN_TRY(parse_size(found->properties.at("size"), 1));
  if (memory_chosen_ && machine.memory_bytes != bytes)
    return fail(
        "Size specified by -m option must match size of explicitly specified 'memory-backend' "
        "property");
  machine.memory_bytes = bytes;
  const auto preallocate = found->properties.find("prealloc");
  if (preallocate != found->properties.end())
    machine.preallocate_memory |= LIMEN_TRY(machine::parse_boolean(preallocate->second));
  return {};
}

}  // namespace limen::qemu
