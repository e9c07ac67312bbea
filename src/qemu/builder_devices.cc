// Options that put things on the board: drives, devices, serial ports and what stands behind them.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "base/nearest.h"
#include "machine/device_catalog.h"
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
  if (is_block_object(values.text("qom-type"))) return block_object(values);
  constexpr std::array<std::string_view, 3> kKnown = {"qom-type", "id", "filename"};
  constexpr std::array<std::string_view, 4> kTypes = {"rng-random", "rng-builtin", "iothread",
                                                      "throttle-group"};
  constexpr std::array<std::string_view, 2> kSources = {"/dev/urandom", "/dev/random"};
  LIMEN_TRY(values.check(kKnown));
  const auto type = values.text("qom-type");
  if (std::ranges::find(kTypes, std::string_view(type)) == kTypes.end())
    return fail("Parameter 'qom-type' does not accept value '{}'{}", type,
                choice_hint(type, kTypes));
  if (values.find("filename")) {
    if (type != "rng-random") return fail("Property '{}.filename' not found", type);
    LIMEN_TRY(values.choice("filename", kSources, ""));
  }
  const auto id = values.text("id");
  if (id.empty()) return fail("Parameter 'id' is missing");
  if (has_id(result_.machine.entropy_sources, id))
    return fail("there is an object '{}' already", id);
  result_.machine.entropy_sources.push_back({id});
  return {};
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
  LIMEN_TRY(connect_monitors());
  LIMEN_TRY(check_references());
  return std::move(result_);
}

}  // namespace limen::qemu
