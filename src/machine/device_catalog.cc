#include "machine/device_catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "base/nearest.h"

namespace limen::machine {
namespace {

using enum PropertyType;

constexpr PropertySpecification kId = {"id", kText, "name of this device"};
constexpr PropertySpecification kBus = {"bus", kText, "bus to plug into: pcie.0 or pci.0"};
constexpr PropertySpecification kAddress = {"addr", kText, "slot and function: 0x3 or 0x3.0x1"};
constexpr PropertySpecification kVectors = {"vectors", kNumber, "MSI-X vectors", 1, 2048};
constexpr PropertySpecification kDisableLegacy = {"disable-legacy", kText,
                                                  "on or auto: only virtio 1 is there"};
constexpr PropertySpecification kDisableModern = {"disable-modern", kBoolean,
                                                  "off: only virtio 1 is there"};

constexpr std::array kBlockProperties = {
    kId,
    PropertySpecification{"drive", kText, "id of a -drive with if=none"},
    PropertySpecification{"serial", kText, "serial number, at most 20 bytes"},
    PropertySpecification{"num-queues", kNumber, "request queues", 1, 64},
    PropertySpecification{"queue-size", kNumber, "entries of a queue, a power of two", 4, 1024},
    PropertySpecification{"write-cache", kBoolean, "the guest sees a write-back cache"},
    PropertySpecification{"discard", kBoolean, "the guest may discard blocks"},
    PropertySpecification{"write-zeroes", kBoolean, "the guest may ask for zeroed blocks"},
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kEntropyProperties = {
    kId,
    PropertySpecification{"rng", kText, "id of an -object rng-random or rng-builtin"},
    PropertySpecification{"max-bytes", kNumber, "bytes given out in one period", 1, INT64_MAX},
    PropertySpecification{"period", kNumber, "length of a period in milliseconds", 1, UINT32_MAX},
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kBalloonProperties = {
    kId,
    PropertySpecification{"deflate-on-oom", kBoolean, "a guest out of memory takes it back"},
    PropertySpecification{"free-page-reporting", kBoolean, "the guest tells of unused pages"},
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr PropertySpecification kPanicEvents = {"events", kNumber,
                                                "1: panic, 2: crash kernel loaded, 3: both", 0, 3};
constexpr std::array kPvpanicProperties = {
    kId,
    PropertySpecification{"ioport", kNumber, "port", 0, 0xFFFF},
    kPanicEvents,
};
constexpr std::array kPvpanicPciProperties = {kId, kPanicEvents, kBus, kAddress};
constexpr std::array kSerialBusProperties = {
    kId,
    PropertySpecification{"max_ports", kNumber, "ports it can have", 1, 31},
    kVectors,
    kBus,
    kAddress,
    kDisableLegacy,
    kDisableModern,
};
constexpr std::array kPortProperties = {
    kId,
    PropertySpecification{"chardev", kText, "id of a -chardev"},
    PropertySpecification{"name", kText, "name that the guest sees"},
    PropertySpecification{"nr", kNumber, "number of the port", 0, 30},
    PropertySpecification{"bus", kText, "virtio-serial bus: ID.0 of a virtio-serial-pci"},
};
constexpr std::array kDebugExitProperties = {
    kId,
    PropertySpecification{"iobase", kNumber, "first port", 0, 0xFFFF},
    PropertySpecification{"iosize", kNumber, "number of ports", 1, 8},
};
constexpr std::array kDebugConsoleProperties = {
    kId,
    PropertySpecification{"chardev", kText, "id of a -chardev"},
    PropertySpecification{"iobase", kNumber, "port", 0, 0xFFFF},
    PropertySpecification{"readback", kNumber, "what a read of the port gives", 0, 0xFF},
};
constexpr std::array kTestDeviceProperties = {kId};

constexpr std::array kCatalog = {
    DeviceSpecification{"virtio-blk-pci", "virtio-blk", "PCI", "virtio disk", kBlockProperties},
    DeviceSpecification{"virtio-rng-pci", "virtio-rng", "PCI", "virtio entropy source",
                        kEntropyProperties},
    DeviceSpecification{"virtio-balloon-pci", "virtio-balloon", "PCI", "virtio memory balloon",
                        kBalloonProperties},
    DeviceSpecification{"pvpanic", "", "ISA", "a port at which a guest tells of its panic",
                        kPvpanicProperties},
    DeviceSpecification{"pvpanic-pci", "", "PCI", "the same behind PCI", kPvpanicPciProperties},
    DeviceSpecification{"virtio-serial-pci", "virtio-serial", "PCI", "virtio console controller",
                        kSerialBusProperties},
    DeviceSpecification{"virtconsole", "", "virtio-serial-bus", "virtio console", kPortProperties},
    DeviceSpecification{"virtserialport", "", "virtio-serial-bus", "virtio byte stream",
                        kPortProperties},
    DeviceSpecification{"isa-debug-exit", "", "ISA", "a port that ends the machine",
                        kDebugExitProperties},
    DeviceSpecification{"isa-debugcon", "", "ISA", "a port that prints what is written",
                        kDebugConsoleProperties},
    DeviceSpecification{"pc-testdev", "", "ISA", "ports for test suites", kTestDeviceProperties},
};

constexpr std::array<std::string_view, 4> kTrue = {"on", "yes", "true", "y"};
constexpr std::array<std::string_view, 4> kFalse = {"off", "no", "false", "n"};

Result<> check_value(const PropertySpecification& property, std::string_view value) {
  switch (property.type) {
    case kText:
      if (property.name == kDisableLegacy.name && value != "on" && value != "auto")
        return fail("legacy virtio is not there; use on or auto");
      return {};
    case kBoolean:
      if (LIMEN_TRY(parse_boolean(value)) && property.name == kDisableModern.name)
        return fail("only modern virtio is there; use off");
      return {};
    case kNumber: {
      const auto number = LIMEN_TRY(parse_number(value));
      if (number < property.minimum || number > property.maximum)
        return fail("out of range; valid: {} to {}", property.minimum, property.maximum);
      return {};
    }
  }
  return {};
}

}  // namespace

std::span<const DeviceSpecification> device_catalog() { return kCatalog; }

const DeviceSpecification* find_device(std::string_view driver) {
  for (const auto& device : kCatalog)
    if (device.driver == driver || (!device.alias.empty() && device.alias == driver))
      return &device;
  return nullptr;
}

Result<> check_device(const DeviceDescription& device) {
  const auto* specification = find_device(device.driver);
  if (specification == nullptr) {
    std::vector<std::string_view> drivers;
    drivers.reserve(kCatalog.size());
    for (const auto& known : kCatalog) drivers.push_back(known.driver);
    return fail("unknown device '{}'{}", device.driver, choice_hint(device.driver, drivers));
  }
  for (const auto& [name, value] : device.properties) {
    const auto found = std::ranges::find(specification->properties, std::string_view(name),
                                         &PropertySpecification::name);
    if (found == specification->properties.end()) {
      std::vector<std::string_view> names;
      for (const auto& property : specification->properties) names.push_back(property.name);
      return fail("{} has no property '{}'{}", specification->driver, name,
                  choice_hint(name, names));
    }
    if (auto checked = check_value(*found, value); !checked)
      return fail("{} property {}={}: {}", specification->driver, name, value,
                  checked.error().message);
  }
  return {};
}

std::string describe_devices() {
  std::string text;
  for (const auto& device : kCatalog)
    text += fmt::format("{:<18} bus {:<18} {}{}\n", device.driver, device.bus, device.help,
                        device.alias.empty() ? "" : fmt::format(" (alias {})", device.alias));
  return text;
}

std::string describe_properties(const DeviceSpecification& device) {
  std::string text = fmt::format("{} properties:\n", device.driver);
  for (const auto& property : device.properties) {
    const char* type = property.type == kBoolean  ? "on|off"
                       : property.type == kNumber ? "number"
                                                  : "text";
    text += fmt::format("  {:<16} <{}>  {}\n", property.name, type, property.help);
  }
  return text;
}

Result<bool> parse_boolean(std::string_view text) {
  if (std::ranges::find(kTrue, text) != kTrue.end()) return true;
  if (std::ranges::find(kFalse, text) != kFalse.end()) return false;
  return fail("'{}' is not a boolean; valid choices: on, off", text);
}

Result<uint64_t> parse_number(std::string_view text) {
  int base = 10;
  std::string_view digits = text;
  if (digits.starts_with("0x") || digits.starts_with("0X")) {
    base = 16;
    digits.remove_prefix(2);
  } else if (digits.size() > 1 && digits.starts_with("0")) {
    base = 8;
    digits.remove_prefix(1);
  }
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error == std::errc::result_out_of_range) return fail("'{}' does not fit 64 bits", text);
  if (error != std::errc() || end != digits.data() + digits.size())
    return fail("'{}' is not a number", text);
  return value;
}

std::string DeviceProperties::text(const std::string& name, std::string_view otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::string(otherwise) : found->second;
}

bool DeviceProperties::boolean(const std::string& name, bool otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : parse_boolean(found->second).value_or(otherwise);
}

uint64_t DeviceProperties::number(const std::string& name, uint64_t otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? otherwise : parse_number(found->second).value_or(otherwise);
}

}  // namespace limen::machine
