// Options that put things on the board: drives, devices, serial ports and what stands behind them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/nearest.h"
#include "machine/device_catalog.h"
#include "machine/device_json.h"
#include "machine/firmware.h"
#include "qemu/builder.h"
#include "qemu/json_options.h"
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

/// What -device says, or what it is to print instead.
struct ReadDevice {
  machine::DeviceDescription device = {};
  std::string help = {};
};

Result<ReadDevice> read_device(const std::string& argument) {
  ReadDevice read;
  if (is_json(argument)) {
    read.device = LIMEN_TRY(machine::device_from_json(LIMEN_TRY(parse_json_option(argument))));
    return read;
  }
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "driver"));
  const auto driver = values.text("driver");
  if (driver.empty()) return fail("Parameter 'driver' is missing");
  if (driver == "help" || driver == "?") {
    read.help = machine::describe_devices();
    return read;
  }
  const auto* specification = machine::find_device(driver);
  if (specification != nullptr && values.wants_help()) {
    read.help = machine::describe_properties(*specification);
    return read;
  }
  read.device.driver = specification != nullptr ? std::string(specification->driver) : driver;
  for (const auto& [key, value] : values.pairs()) {
    if (key == "driver") continue;
    if (!read.device.properties.emplace(key, value).second)
      return fail("property '{}' is given twice", key);
  }
  return read;
}

}  // namespace

Result<> Builder::device(const std::string& argument) {
  auto read = LIMEN_TRY(read_device(argument));
  if (!read.help.empty()) {
    print(read.help);
    return {};
  }
  auto& device = read.device;
  LIMEN_TRY(machine::check_device(device));
  if (const auto id = device.properties.find("id"); id != device.properties.end())
    for (const auto& other : result_.machine.devices)
      if (const auto its = other.properties.find("id");
          its != other.properties.end() && its->second == id->second)
        return fail("Duplicate ID '{}' for device", id->second);
  result_.machine.devices.push_back(std::move(device));
  return {};
}

Result<> Builder::tpm_device(const std::string& argument) {
  const auto values = LIMEN_TRY(KeyValues::parse(argument, "type"));
  constexpr std::array<std::string_view, 4> kKnown = {"type", "id", "chardev", "help"};
  if (values.wants_help()) {
    print("Supported TPM types (choose only one):\n    emulator   TPM emulator backend driver\n");
    return {};
  }
  LIMEN_TRY(values.check(kKnown));
  const auto type = values.text("type"), id = values.text("id"), character = values.text("chardev");
  if (type.empty()) return fail("Parameter 'type' is missing");
  if (type != "emulator")
    return fail("Parameter 'type' does not accept value '{}'; valid: emulator", type);
  if (id.empty()) return fail("Parameter 'id' is missing");
  if (character.empty()) return fail("parameter 'chardev' is missing");
  if (!result_.machine.tpms.empty()) return fail("only one TPM is allowed");
  result_.machine.tpms.push_back({.id = id, .character = character});
  return {};
}

Result<> Builder::usb(const std::string&) {
  usb_ = true;
  return {};
}

Result<> Builder::usb_device(const std::string& argument) {
  struct Kind {
    std::string_view name;
    std::string_view driver;
  };
  constexpr std::array kKinds = {Kind{"keyboard", "usb-kbd"}, Kind{"mouse", "usb-mouse"},
                                 Kind{"tablet", "usb-tablet"}};
  const auto found = std::ranges::find(kKinds, std::string_view(argument), &Kind::name);
  if (found == kKinds.end()) {
    constexpr std::array<std::string_view, 3> kNames = {"keyboard", "mouse", "tablet"};
    return fail("could not add USB device '{}'{}", argument, choice_hint(argument, kNames));
  }
  usb_ = true;
  result_.machine.devices.push_back({.driver = std::string(found->driver)});
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
    if (const auto* source = property("rng"))
      if (auto found = find_object(*source, "rng-"); !found)
        return fail("-device {},rng={}: {}", device.driver, *source, found.error().message);
    LIMEN_TRY(check_block_references(device));
  }
  if (!machine.web)
    for (const auto& character : machine.characters)
      if (character.kind == Kind::kWeb)
        return fail("chardev '{}' is one of the browser's, which needs -display web", character.id);
  for (const auto& tpm : machine.tpms) {
    const auto found =
        std::ranges::find(machine.characters, tpm.character, &CharacterDescription::id);
    if (found == machine.characters.end())
      return fail("-tpmdev emulator,id={}: tpm-emulator: can't find chardev '{}'{}", tpm.id,
                  tpm.character, id_hint(tpm.character, machine.characters));
    if (found->kind != Kind::kSocket || found->server)
      return fail("-tpmdev emulator,id={}: chardev '{}' must be a socket that connects to swtpm",
                  tpm.id, tpm.character);
  }
  const auto on_terminal =
      std::ranges::count(machine.characters, Kind::kStdio, &CharacterDescription::kind);
  if (on_terminal > 1)
    return fail("cannot use stdio by multiple character devices: {} have it", on_terminal);
  if (on_terminal != 0 && machine.display == machine::MachineDescription::Display::kCurses)
    return fail("-display curses has the terminal: a character device cannot use stdio, too");
  return {};
}

/// -device isa-serial: the ports behind those of -serial, or at the place that index= says.
Result<> Builder::finish_serial_devices() {
  constexpr size_t kPorts = 4;
  auto& ports = result_.machine.serials;
  for (auto& device : result_.machine.devices) {
    if (device.driver != "isa-serial") continue;
    const auto chardev = device.properties.find("chardev");
    if (chardev == device.properties.end())
      return fail("-device isa-serial: Can't create serial device, empty char device");
    size_t place = ports.size();
    if (const auto index = device.properties.find("index"); index != device.properties.end())
      place = LIMEN_TRY(machine::parse_number(index->second));
    if (place >= kPorts)
      return fail("-device isa-serial: Max. supported number of ISA serial ports is {}", kPorts);
    if (place < ports.size() && !ports[place].empty())
      return fail("-device isa-serial,index={}: COM{} is there already", place, place + 1);
    ports.resize(std::max(ports.size(), place + 1));
    ports[place] = chardev->second;
    device.properties["index"] = std::to_string(place);
  }
  return {};
}

/// The graphics card of -vga, before all that -device adds. As in QEMU there is one unless the
/// defaults are off or -device has one; a kernel that is given directly, without firmware that
/// would set it up, gets none unless it is asked for.
void Builder::finish_vga() {
  auto& devices = result_.machine.devices;
  const bool has_one = std::ranges::any_of(devices, [](const auto& device) {
    return device.driver == "VGA" || device.driver == "virtio-vga";
  });
  const bool by_default = !no_defaults_ && !has_one && machine::boots_firmware(result_.machine) &&
                          result_.machine.type != "none";
  const std::string_view wanted = !vga_.empty() ? std::string_view(vga_)
                                  : by_default  ? "std"
                                                : "none";
  if (wanted == "none") return;
  devices.insert(devices.begin(), {.driver = wanted == "std" ? "VGA" : "virtio-vga"});
}

/// The controller of -usb, where QEMU's boards have theirs; it is an xHCI controller on both.
void Builder::finish_usb() {
  if (!usb_ || result_.machine.type == "none") return;
  auto& devices = result_.machine.devices;
  devices.insert(devices.begin(),
                 {.driver = "qemu-xhci",
                  .properties = {{"addr", result_.machine.type == "pc" ? "0x1.0x2" : "0x1d"}}});
}

Result<CommandLine> Builder::finish() {
  if (printing()) return std::move(result_);
  LIMEN_TRY(finish_accelerator());
  if (result_.machine.kernel.empty() && result_.machine.type != "none") {
    if (!result_.machine.initrd.empty())
      return fail("-initrd {}: an initrd needs a -kernel", result_.machine.initrd);
    if (!result_.machine.append.empty())
      return fail("-append {}: a command line needs a -kernel", result_.machine.append);
  }
  finish_sleep_states();
  LIMEN_TRY(finish_drives());
  add_default_console();
  unsigned port = 0;
  for (const auto& specification : serials_) {
    if (specification == "none") continue;
    result_.machine.serials.push_back(
        LIMEN_TRY(add_backend(specification, fmt::format("serial{}", port++))));
  }
  LIMEN_TRY(finish_serial_devices());
  finish_usb();
  finish_vga();
  LIMEN_TRY(finish_memory());
  LIMEN_TRY(finish_network());
  LIMEN_TRY(connect_monitors());
  LIMEN_TRY(check_references());
  return std::move(result_);
}

}  // namespace limen::qemu
