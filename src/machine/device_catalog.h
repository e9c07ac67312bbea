// The devices that -device can name, and their properties.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "machine/description.h"

namespace limen::machine {

enum class PropertyType : uint8_t { kText, kBoolean, kNumber };

struct PropertySpecification {
  std::string_view name;
  PropertyType type = PropertyType::kText;
  std::string_view help;
  uint64_t minimum = 0;  ///< kNumber.
  uint64_t maximum = UINT64_MAX;
};

struct DeviceSpecification {
  std::string_view driver;
  std::string_view alias;  ///< A second name; may be empty.
  std::string_view bus;    ///< What it plugs into: "PCI", "ISA" or "virtio-serial-bus".
  std::string_view help;
  std::span<const PropertySpecification> properties;
};

/// Behind the name of a virtio-*-pci it means the same device.
inline constexpr std::string_view kNonTransitional = "-non-transitional";
/// Where virtio devices without PCI plug in.
inline constexpr std::string_view kVirtioBus = "virtio-bus";

[[nodiscard]] std::span<const DeviceSpecification> device_catalog();
/// The registers of a virtio device without PCI: of virtio-blk-pci it is virtio-blk-device.
inline constexpr std::string_view kVirtioDevice = "-device", kVirtioPci = "-pci";

/// By name or alias; null when there is none.
[[nodiscard]] const DeviceSpecification* find_device(std::string_view driver);

/// What virtio-blk and its kind stand for: without PCI the device with registers in memory.
[[nodiscard]] std::string resolve_driver(std::string_view driver, bool pci);

/// The property `name` of what is called `owner`; the error names the nearest.
Result<const PropertySpecification*> find_property(
    std::string_view owner, std::span<const PropertySpecification> properties,
    std::string_view name);

/// Checks that driver, properties and values are ones that the catalog has.
Result<> check_device(const DeviceDescription& device);

/// What `-device help` and `-device DRIVER,help` print.
[[nodiscard]] std::string describe_devices();
[[nodiscard]] std::string describe_properties(const DeviceSpecification& device);

/// QEMU's spellings: on, yes, true, y and off, no, false, n.
Result<bool> parse_boolean(std::string_view text);
/// Decimal, 0x hexadecimal or 0 octal.
Result<uint64_t> parse_number(std::string_view text);

/// A checked device's properties, with their types. A property that was not given is the default.
class DeviceProperties {
 public:
  explicit DeviceProperties(const DeviceDescription& device) : values_(device.properties) {}
  [[nodiscard]] std::string text(const std::string& name, std::string_view otherwise = {}) const;
  [[nodiscard]] bool boolean(const std::string& name, bool otherwise) const;
  [[nodiscard]] uint64_t number(const std::string& name, uint64_t otherwise) const;

 private:
  const std::map<std::string, std::string>& values_;
};

}  // namespace limen::machine
