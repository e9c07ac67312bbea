#include "monitor/object_tree.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/size_text.h"
#include "machine/device_catalog.h"
#include "machine/machine.h"
#include "machine/objects.h"
#include "x86/cpu_models.h"

namespace limen::monitor {
namespace {

using Json = nlohmann::json;

std::string child(const std::string& type) { return "child<" + type + ">"; }

std::string machine_type(machine::Machine& machine) {
  if (machine.board() == nullptr) return "none-machine";
  const auto& type = machine.description().type;
  if (type == "microvm") return "microvm-machine";
  return type == "pc" ? "pc-i440fx-7.2-machine" : "pc-q35-7.2-machine";
}

std::string processor_type(machine::Machine& machine) {
  const auto& cpu = machine.description().cpu;
  return cpu.substr(0, cpu.find(',')) + "-x86_64-cpu";
}

Object container() { return {"container", {}}; }

/// A property of a device, with the type that the catalog gives it.
ObjectProperty device_property(const machine::DeviceDescription& device, const std::string& name) {
  using machine::PropertyType;
  const auto* specification = machine::find_device(device.driver);
  const auto found =
      std::ranges::find(specification->properties, name, &machine::PropertySpecification::name);
  const auto& text = device.properties.at(name);
  switch (found->type) {
    case PropertyType::kBoolean:
      return {name, "bool", machine::parse_boolean(text).value_or(false)};
    case PropertyType::kNumber:
      return {name, "uint64", machine::parse_number(text).value_or(0)};
    default:
      return {name, "str", text};
  }
}

Object device_object(const machine::DeviceDescription& device) {
  Object object{device.driver, {}};
  for (const auto& [name, value] : device.properties)
    if (name != "id") object.properties.push_back(device_property(device, name));
  return object;
}

std::optional<std::string> id_of(const machine::DeviceDescription& device) {
  const auto id = device.properties.find("id");
  if (id == device.properties.end()) return std::nullopt;
  return id->second;
}

Object machine_object(machine::Machine& machine) {
  const auto& description = machine.description();
  Object object{machine_type(machine), {}};
  object.properties = {
      {"peripheral", child("container"), {}}, {"peripheral-anon", child("container"), {}},
      {"unattached", child("container"), {}}, {"kernel", "str", description.kernel},
      {"initrd", "str", description.initrd},  {"append", "str", description.append}};
  if (machine.board() != nullptr) {
    object.properties.push_back({"hpet", "bool", description.hpet});
    object.properties.push_back({"pit", "bool", description.pit});
  }
  return object;
}

Object peripherals(machine::Machine& machine, bool named) {
  Object object = container();
  const auto& devices = machine.devices();
  for (size_t i = 0; i < devices.size(); ++i) {
    const auto id = id_of(devices[i]);
    if (id.has_value() == named)
      object.properties.push_back(
          {id.value_or(fmt::format("device[{}]", i)), child(devices[i].driver), {}});
  }
  return object;
}

std::optional<Object> peripheral(machine::Machine& machine, const std::string& name) {
  const auto& devices = machine.devices();
  for (size_t i = 0; i < devices.size(); ++i)
    if (id_of(devices[i]).value_or(fmt::format("device[{}]", i)) == name)
      return device_object(devices[i]);
  return std::nullopt;
}

Object unattached(machine::Machine& machine) {
  Object object = container();
  for (size_t i = 0; i < machine.processors().size(); ++i)
    object.properties.push_back({fmt::format("device[{}]", i), child(processor_type(machine)), {}});
  return object;
}

Object objects(machine::Machine& machine) {
  Object object = container();
  for (const auto& each : machine.objects())
    object.properties.push_back({each.id, child(each.type), {}});
  return object;
}

std::optional<Object> user_object(machine::Machine& machine, const std::string& id) {
  using machine::PropertyType;
  const auto& all = machine.objects();
  const auto found = std::ranges::find(all, id, &machine::ObjectDescription::id);
  if (found == all.end()) return std::nullopt;
  Object object{found->type, {}};
  const auto* specification = machine::find_object_type(found->type);
  for (const auto& [name, value] : found->properties) {
    const auto property = std::ranges::find(specification->properties, std::string_view(name),
                                            &machine::PropertySpecification::name);
    const auto type =
        property == specification->properties.end() ? PropertyType::kNumber : property->type;
    // What is secret stays it.
    if (found->type == "secret" && name == "data") continue;
    if (name == "size" || type == PropertyType::kNumber)
      object.properties.push_back({name, "uint64", parse_size(value, 1).value_or(0)});
    else if (type == PropertyType::kBoolean)
      object.properties.push_back({name, "bool", machine::parse_boolean(value).value_or(false)});
    else
      object.properties.push_back({name, "str", value});
  }
  return object;
}

Object characters(machine::Machine& machine) {
  Object object = container();
  for (const auto& info : machine.characters().list())
    object.properties.push_back({info.label, child("chardev"), {}});
  return object;
}

std::optional<Object> find(machine::Machine& machine, const std::string& path) {
  if (path == "/")
    return Object{"container",
                  {{"machine", child(machine_type(machine)), {}},
                   {"objects", child("container"), {}},
                   {"chardevs", child("container"), {}}}};
  if (path == "/machine") return machine_object(machine);
  if (path == "/machine/peripheral") return peripherals(machine, true);
  if (path == "/machine/peripheral-anon") return peripherals(machine, false);
  if (path == "/machine/unattached") return unattached(machine);
  if (path == "/objects") return objects(machine);
  if (path == "/chardevs") return characters(machine);
  const auto slash = path.rfind('/');
  const auto parent = path.substr(0, slash);
  const auto name = path.substr(slash + 1);
  if (parent == "/machine/peripheral" || parent == "/machine/peripheral-anon")
    return peripheral(machine, name);
  if (parent == "/objects") return user_object(machine, name);
  if (parent == "/machine/unattached" || parent == "/chardevs") {
    const auto all = find(machine, parent);
    for (const auto& property : all->properties)
      if (property.name == name) {
        const auto& type = property.type;
        return Object{type.substr(6, type.size() - 7), {}};
      }
  }
  return std::nullopt;
}

}  // namespace

std::optional<Object> find_object(machine::Machine& machine, const std::string& path) {
  std::string tidy = path;
  while (tidy.size() > 1 && tidy.ends_with('/')) tidy.pop_back();
  if (!tidy.starts_with('/')) return std::nullopt;
  auto object = find(machine, tidy);
  if (object)
    object->properties.insert(object->properties.begin(), {"type", "string", object->type});
  return object;
}

const std::map<std::string, std::vector<std::string>>& chipset_properties() {
  static const std::map<std::string, std::vector<std::string>> properties = {
      {"ICH9-LPC", {"disable_s3", "disable_s4"}}, {"PIIX4_PM", {"disable_s3", "disable_s4"}}};
  return properties;
}

std::vector<TypeInfo> object_types() {
  std::vector<TypeInfo> types = {{"object", "", false},
                                 {"container", "object", false},
                                 {"accel", "object", true},
                                 {"tcg-accel", "accel", false},
                                 {"machine", "object", true},
                                 {"none-machine", "machine", false},
                                 {"pc-i440fx-7.2-machine", "machine", false},
                                 {"pc-q35-7.2-machine", "machine", false},
                                 {"rng-backend", "object", true},
                                 {"rng-random", "rng-backend", false},
                                 {"rng-builtin", "rng-backend", false},
                                 {"iothread", "object", false},
                                 {"secret", "object", false},
                                 {"throttle-group", "object", false},
                                 {"memory-backend", "object", true},
                                 {"memory-backend-file", "memory-backend", false},
                                 {"memory-backend-memfd", "memory-backend", false},
                                 {"memory-backend-ram", "memory-backend", false},
                                 {"device", "object", true},
                                 {"cpu", "device", true},
                                 {"x86_64-cpu", "cpu", true},
                                 {"chardev", "object", true}};
  for (const auto& model : x86::cpu_models())
    types.push_back({std::string(model.name) + "-x86_64-cpu", "x86_64-cpu", false});
  for (const auto& device : machine::device_catalog()) {
    const std::string name(device.driver);
    types.push_back({name, "device", false});
    if (name.starts_with("virtio-") && name.ends_with("-pci"))
      types.push_back({name + std::string(machine::kNonTransitional), "device", false});
  }
  for (const auto& [type, properties] : chipset_properties())
    types.push_back({type, "device", false});
  for (const char* name :
       {"file", "null", "pipe", "pty", "ringbuf", "socket", "stdio", "udp", "mux"})
    types.push_back({std::string("chardev-") + name, "chardev", false});
  return types;
}

bool is_a(const std::vector<TypeInfo>& types, std::string_view type, std::string_view wanted) {
  while (!type.empty()) {
    if (type == wanted) return true;
    const auto found = std::ranges::find(types, type, &TypeInfo::name);
    if (found == types.end()) return false;
    type = found->parent;
  }
  return false;
}

}  // namespace limen::monitor
