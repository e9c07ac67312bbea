// Devices that come and go, and the balloon.
#include "machine/board.h"
#include "machine/device_catalog.h"
#include "machine/machine.h"
#include "monitor/qmp/command_table.h"
#include "virtio/balloon/balloon.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kDeviceSchema = R"(
# The other members are the device's properties.
command device_add { driver: str, *bus: str, *id: str } [open json-cli json-cli-hotplug]
command device_del { id: str }
event DEVICE_DELETED { *device: str, path: str }
event VSERPORT_CHANGE { id: str, open: bool }

struct BalloonInfo { actual: uint }
command query-balloon -> BalloonInfo
command balloon { value: uint }
event BALLOON_CHANGE { actual: uint }
)";

/// As -device writes it.
std::string property_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  return value.dump();
}

Reply device_add(Context& context, const Json& arguments) {
  if (context.machine.board() == nullptr) return failure("GenericError", "this machine has no bus");
  machine::DeviceDescription device;
  device.driver = arguments["driver"];
  const auto* specification = machine::find_device(device.driver);
  if (specification == nullptr)
    return failure("GenericError", "'{}' is not a valid device model name", device.driver);
  device.driver = specification->driver;
  for (const auto& [name, value] : arguments.items())
    if (name != "driver") device.properties[name] = property_text(value);
  if (const auto id = arguments.find("id"); id != arguments.end())
    for (const auto& other : context.machine.devices())
      if (const auto its = other.properties.find("id");
          its != other.properties.end() && its->second == id->get<std::string>())
        return failure("GenericError", "Duplicate device ID '{}'", its->second);
  if (auto plugged = context.machine.plug(device); !plugged) {
    // As on the command line, but there is none.
    auto text = std::move(plugged).error().message;
    if (const auto prefix = "-device " + device.driver + ": "; text.starts_with(prefix))
      text.erase(0, prefix.size());
    return failure("GenericError", "{}", text);
  }
  return nothing();
}

Reply device_del(Context& context, const Json& arguments) {
  const std::string id = arguments["id"];
  if (context.machine.board() == nullptr)
    return failure("DeviceNotFound", "Device '{}' not found", id);
  if (auto asked = context.machine.request_unplug(id); !asked) {
    const bool missing = asked.error().message.ends_with("not found");
    return failure(missing ? "DeviceNotFound" : "GenericError", "{}", asked.error().message);
  }
  return nothing();
}

std::expected<virtio::Balloon*, Failure> balloon_of(Context& context) {
  auto* device = context.machine.board() != nullptr ? context.machine.board()->balloon() : nullptr;
  if (device == nullptr) return failure("DeviceNotActive", "No balloon device has been activated");
  return device;
}

Reply query_balloon(Context& context, const Json&) {
  const auto device = balloon_of(context);
  if (!device) return std::unexpected(device.error());
  return Json{{"actual", (*device)->actual()}};
}

Reply balloon(Context& context, const Json& arguments) {
  const auto device = balloon_of(context);
  if (!device) return std::unexpected(device.error());
  const uint64_t bytes = arguments["value"];
  if (bytes == 0) return failure("GenericError", "Parameter 'target' expects a size");
  if (auto set = (*device)->set_target(bytes); !set)
    return std::unexpected(Failure(std::move(set).error()));
  return nothing();
}

}  // namespace

CommandGroup device_commands() {
  return {kDeviceSchema,
          {{"device_add", device_add},
           {"device_del", device_del},
           {"query-balloon", query_balloon},
           {"balloon", balloon}}};
}

}  // namespace limen::monitor
