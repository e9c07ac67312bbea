// Options that put things on the board: drives, devices, serial ports and what stands behind them.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "base/nearest.h"
#include "machine/device_catalog.h"
#include "machine/objects.h"
#include "qemu/builder.h"
#include "qemu/key_values.h"

namespace limen::qemu {
namespace {

using machine::CharacterDescription;
using Kind = CharacterDescription::Kind;

template <typename T>
bool has_id(const std::vector<T>& things, std::string_view id) {
  return std::ranges::any_of(things, [&](const T& thing) { return thing.id == id; });
}

template <typename T>
std::string id_hint(std::string_view wanted, const std::vector<T>& things) {
  std::vector<std::string_view> ids;
  for (const auto& thing : things)
    if (!thing.id.empty()) ids.push_back(thing.id);
  return choice_hint(wanted, ids);
}

}  // namespace

Result<> Builder::device(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "driver"));
  const auto driver = values.text("driver");
  if (driver == "help" || driver == "?") {
    print(machine::describe_devices());
    return {};
  }
  const auto* specification = machine::find_device(driver);
  if (specification != nullptr && values.wants_help()) {
    print(machine::describe_properties(*specification));
    return {};
  }
  machine::DeviceDescription device;
  device.driver = specification != nullptr ? std::string(specification->driver) : driver;
  for (const auto& [key, value] : values.pairs()) {
    if (key == "driver") continue;
    if (!device.properties.emplace(key, value).second)
      return fail("property '{}' is given twice", key);
  }
  LIMEN_TRY(machine::check_device(device));
  if (const auto id = device.properties.find("id"); id != device.properties.end())
    for (const auto& other : result_.machine.devices)
      if (const auto its = other.properties.find("id");
          its != other.properties.end() && its->second == id->second)
        return fail("Duplicate ID '{}' for device", id->second);
  result_.machine.devices.push_back(std::move(device));
  return {};
}

Result<> Builder::object(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "qom-type"));
  const auto type = values.text("qom-type");
  if (type == "help" || type == "?") {
    std::string text = "List of user creatable objects:\n";
    for (const auto& each : machine::object_catalog()) text += fmt::format("  {}\n", each.type);
    print(text);
    return {};
  }
  const auto* specification = machine::find_object_type(type);
  if (specification != nullptr && values.wants_help()) {
    std::string text = fmt::format("{} options:\n", type);
    for (const auto& property : specification->properties)
      text += fmt::format("  {:<24} {}\n", property.name, property.help);
    print(text);
    return {};
  }
  const auto id = values.text("id");
  if (!id.empty() &&
      (has_id(result_.machine.entropy_sources, id) || has_id(result_.machine.objects, id) ||
       has_id(result_.machine.io_threads, id) || has_id(result_.machine.throttle_groups, id)))
    return fail("attempt to add duplicate property '{}' to object (type 'container')", id);
  if (is_block_object(type)) return block_object(values);
  machine::ObjectDescription object{.type = type, .id = id};
  for (const auto& [key, value] : values.pairs()) {
    if (key == "qom-type" || key == "id") continue;
    if (!object.properties.emplace(key, value).second)
      return fail("property '{}' is given twice", key);
  }
  LIMEN_TRY(machine::check_object(object));
  if (type.starts_with("rng-"))
    result_.machine.entropy_sources.push_back({.id = id, .type = type});
  else
    result_.machine.objects.push_back(std::move(object));
  return {};
}

/// -machine memory-backend=: the machine has the back end's size, which -m may only repeat.
Result<> Builder::finish_memory() {
  auto& machine = result_.machine;
  if (machine.memory_backend.empty()) return {};
  for (const auto& object : machine.objects) {
    if (object.id != machine.memory_backend || !machine::is_memory_backend(object.type)) continue;
    const auto size = machine::memory_backend(object).size;
    if (memory_chosen_ && machine.memory_bytes != size)
      return fail("Machine memory size does not match the size of the memory backend");
    machine.memory_bytes = size;
    return {};
  }
  return fail("Memory backend '{}' not found", machine.memory_backend);
}

Result<> Builder::check_references() const {
  const auto& machine = result_.machine;
  for (const auto& device : machine.devices) {
    const auto property = [&](const char* key) -> const std::string* {
      const auto found = device.properties.find(key);
      return found == device.properties.end() ? nullptr : &found->second;
    };
    if (const auto* backend = property("chardev");
        backend != nullptr && !has_id(machine.characters, *backend))
      return fail("-device {0},chardev={1}: Property '{0}.chardev' can't find value '{1}'{2}",
                  device.driver, *backend, id_hint(*backend, machine.characters));
    if (const auto* source = property("rng");
        source != nullptr && !has_id(machine.entropy_sources, *source))
      return fail("-device {0},rng={1}: Device '{1}' not found{2}", device.driver, *source,
                  id_hint(*source, machine.entropy_sources));
    LIMEN_TRY(check_block_references(device));
  }
  const auto on_terminal =
      std::ranges::count(machine.characters, Kind::kStdio, &CharacterDescription::kind);
  if (on_terminal > 1)
    return fail("cannot use stdio by multiple character devices: {} have it", on_terminal);
  return {};
}

Result<CommandLine> Builder::finish() {
  if (printing()) return std::move(result_);
  if (result_.machine.kernel.empty() && result_.machine.type != "none") {
    if (!result_.machine.initrd.empty())
      return fail("-initrd {}: an initrd needs a -kernel", result_.machine.initrd);
    if (!result_.machine.append.empty())
      return fail("-append {}: a command line needs a -kernel", result_.machine.append);
    return fail(
        "there is nothing to boot: give -kernel (booting from a disk's boot sector needs "
        "firmware, which is not there yet)");
  }
  finish_drives();
  add_default_console();
  unsigned port = 0;
  for (const auto& specification : serials_) {
    if (specification == "none") continue;
    result_.machine.serials.push_back(
        LIMEN_TRY(add_backend(specification, fmt::format("serial{}", port++))));
  }
  LIMEN_TRY(finish_network());
  LIMEN_TRY(finish_memory());
  LIMEN_TRY(connect_monitors());
  LIMEN_TRY(check_references());
  return std::move(result_);
}

}  // namespace limen::qemu
