#include "machine/device_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "machine/device_catalog.h"

namespace limen::machine {
namespace {

using Json = nlohmann::json;

std::unexpected<Error> wrong_type(const std::string& name, std::string_view expected) {
  return fail("Invalid parameter type for '{}', expected: {}", name, expected);
}

Result<std::string> property_text(const std::string& name, PropertyType type, const Json& value) {
  switch (type) {
    case PropertyType::kBoolean:
      if (!value.is_boolean()) return wrong_type(name, "boolean");
      return std::string(value.get<bool>() ? "on" : "off");
    case PropertyType::kNumber:
      if (!value.is_number_integer()) return wrong_type(name, "integer");
      if (!value.is_number_unsigned()) return fail("Parameter '{}' expects uint64", name);
      return std::to_string(value.get<uint64_t>());
    case PropertyType::kText:
      break;
  }
  // An address may be a number: slot and function as configuration space counts them.
  constexpr uint64_t kFunctions = 8, kDevfnLimit = 256;
  if (name == "addr" && value.is_number_unsigned()) {
    const auto devfn = value.get<uint64_t>();
    if (devfn >= kDevfnLimit) return fail("Parameter 'addr' expects a value below {}", kDevfnLimit);
    return fmt::format("{:#x}.{:#x}", devfn / kFunctions, devfn % kFunctions);
  }
  if (!value.is_string()) return wrong_type(name, "string");
  return value.get<std::string>();
}

}  // namespace

Result<DeviceDescription> device_from_json(const Json& object) {
  const auto driver = object.find("driver");
  if (driver == object.end()) return fail("Parameter 'driver' is missing");
  if (!driver->is_string()) return wrong_type("driver", "string");
  DeviceDescription device{.driver = driver->get<std::string>(), .properties = {}};
  const auto* specification = find_device(device.driver);
  if (specification != nullptr) device.driver = specification->driver;
  for (const auto& [name, value] : object.items()) {
    if (name == "driver") continue;
    auto type = PropertyType::kText;
    if (specification != nullptr) {
      const auto found =
          std::ranges::find(specification->properties, name, &PropertySpecification::name);
      if (found == specification->properties.end()) {
        // The name is what is wrong, whatever its type.
        device.properties[name];
        continue;
      }
      type = found->type;
    }
    device.properties[name] = LIMEN_TRY(property_text(name, type, value));
  }
  return device;
}

}  // namespace limen::machine
