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

Result<> Builder::drive(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, ""));
  constexpr std::array<std::string_view, 8> kKnown = {"file",  "format",  "if",     "readonly",
                                                      "cache", "discard", "serial", "id"};
  LIMEN_TRY(values.check(kKnown));
  constexpr std::array<std::string_view, 1> kFormats = {"raw"};
  constexpr std::array<std::string_view, 2> kInterfaces = {"virtio", "none"};
  constexpr std::array<std::string_view, 5> kCaches = {"writeback", "none", "writethrough",
                                                       "directsync", "unsafe"};
  constexpr std::array<std::string_view, 4> kDiscards = {"unmap", "on", "ignore", "off"};
  machine::DriveDescription drive;
  drive.file = values.text("file");
  drive.format = LIMEN_TRY(values.choice("format", kFormats, "raw"));
  drive.interface = LIMEN_TRY(values.choice("if", kInterfaces, "virtio"));
  drive.read_only = LIMEN_TRY(values.boolean("readonly", false));
  drive.cache = LIMEN_TRY(values.choice("cache", kCaches, "writeback"));
  const auto discard = LIMEN_TRY(values.choice("discard", kDiscards, "unmap"));
  drive.discard_unmap = discard == "unmap" || discard == "on";
  drive.serial = values.text("serial");
  drive.id = values.text("id");
  if (drive.file.empty()) return fail("file= is missing: which image is the disk?");
  if (!drive.id.empty() && has_id(result_.machine.drives, drive.id))
    return fail("there is a drive '{}' already", drive.id);
  if (drive.interface == "none" && drive.id.empty())
    return fail("if=none needs id=, by which a -device refers to the drive");
  result_.machine.drives.push_back(std::move(drive));
  return {};
}

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
        return fail("there is a device '{}' already", id->second);
  result_.machine.devices.push_back(std::move(device));
  return {};
}

Result<> Builder::object(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "qom-type"));
  constexpr std::array<std::string_view, 3> kKnown = {"qom-type", "id", "filename"};
  constexpr std::array<std::string_view, 2> kTypes = {"rng-random", "rng-builtin"};
  constexpr std::array<std::string_view, 2> kSources = {"/dev/urandom", "/dev/random"};
  LIMEN_TRY(values.check(kKnown));
  const auto type = values.text("qom-type");
  if (std::ranges::find(kTypes, std::string_view(type)) == kTypes.end())
    return fail("unknown object '{}'{}", type, choice_hint(type, kTypes));
  if (values.find("filename")) {
    if (type != "rng-random") return fail("{} has no property 'filename'", type);
    LIMEN_TRY(values.choice("filename", kSources, ""));
  }
  const auto id = values.text("id");
  if (id.empty()) return fail("id= is missing");
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
    if (const auto* drive = property("drive"); drive != nullptr && !has_id(machine.drives, *drive))
      return fail("-device {},drive={}: there is no -drive with that id{}", device.driver, *drive,
                  id_hint(*drive, machine.drives));
    if (const auto* backend = property("chardev");
        backend != nullptr && !has_id(machine.characters, *backend))
      return fail("-device {},chardev={}: there is no -chardev with that id{}", device.driver,
                  *backend, id_hint(*backend, machine.characters));
    if (const auto* source = property("rng");
        source != nullptr && !has_id(machine.entropy_sources, *source))
      return fail("-device {},rng={}: there is no -object with that id{}", device.driver, *source,
                  id_hint(*source, machine.entropy_sources));
    if (device.driver == "virtio-blk-pci" && property("drive") == nullptr)
      return fail("-device virtio-blk-pci: drive= is missing");
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
  add_default_console();
  unsigned port = 0;
  for (const auto& specification : serials_) {
    if (specification == "none") continue;
    result_.machine.serials.push_back(
        LIMEN_TRY(add_backend(specification, fmt::format("serial{}", port++))));
  }
  LIMEN_TRY(connect_monitors());
  LIMEN_TRY(check_references());
  return std::move(result_);
}

}  // namespace limen::qemu
