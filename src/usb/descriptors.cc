#include "usb/descriptors.h"

#include <algorithm>
#include <array>
#include <initializer_list>

namespace limen::usb {
namespace {

enum Type : uint8_t {
  kDevice = 1,
  kConfiguration = 2,
  kString = 3,
  kInterface = 4,
  kEndpoint = 5,
  kDeviceQualifier = 6,
  kOtherSpeed = 7,
  kCapabilities = 15,
  kCapability = 16,
  kCompanion = 48,
};
enum Text : uint8_t { kManufacturer = 1, kProduct = 2, kSerial = 3 };

constexpr uint8_t kSelfPoweredAlways = 0x80, kWakes = 0x20;

void add(std::vector<uint8_t>& to, std::initializer_list<unsigned> bytes) {
  for (const unsigned byte : bytes) to.push_back(static_cast<uint8_t>(byte));
}

uint8_t low(uint16_t value) { return static_cast<uint8_t>(value & 0xFF); }
uint8_t high(uint16_t value) { return static_cast<uint8_t>(value >> 8); }

uint16_t release_of(Speed speed) {
  switch (speed) {
    case Speed::kSuper:
      return 0x0300;
    case Speed::kHigh:
      return 0x0200;
    default:
      return 0x0110;
  }
}

}  // namespace

std::string_view megabits(Speed speed) {
  switch (speed) {
    case Speed::kFull:
      return "12";
    case Speed::kLow:
      return "1.5";
    case Speed::kHigh:
      return "480";
    case Speed::kSuper:
      return "5000";
  }
  return "0";
}

const Interface* Description::find(Speed speed) const {
  const auto found = std::ranges::find(speeds, speed, &std::pair<Speed, Interface>::first);
  return found == speeds.end() ? nullptr : &found->second;
}

std::vector<uint8_t> Description::device(Speed speed) const {
  const uint16_t release = release_of(speed);
  std::vector<uint8_t> bytes;
  // Of SuperSpeed the packet's size is an exponent.
  add(bytes, {18, kDevice, low(release), high(release), 0, 0, 0, speed == Speed::kSuper ? 9u : 64u,
              low(vendor), high(vendor), low(product), high(product), 0, 0, kManufacturer, kProduct,
              kSerial, 1});
  return bytes;
}

std::vector<uint8_t> Description::qualifier() const {
  std::vector<uint8_t> bytes;
  add(bytes, {10, kDeviceQualifier, 0x00, 0x02, 0, 0, 0, 64, 1, 0});
  return bytes;
}

std::vector<uint8_t> Description::configuration(Speed speed, uint8_t type) const {
  const Interface& interface = *find(speed);
  std::vector<uint8_t> bytes;
  // In 2 mA, of SuperSpeed in 8 mA.
  const unsigned draw = speed == Speed::kSuper ? (power + 3u) / 4 : power;
  add(bytes, {9, type, 0, 0, 1, 1, 0, kSelfPoweredAlways | (wakes ? kWakes : 0u), draw});
  add(bytes, {9, kInterface, 0, 0, static_cast<unsigned>(interface.endpoints.size()),
              interface.device_class, interface.subclass, interface.protocol, 0});
  bytes.insert(bytes.end(), interface.class_descriptor.begin(), interface.class_descriptor.end());
  for (const auto& endpoint : interface.endpoints) {
    add(bytes, {7, kEndpoint, endpoint.address, static_cast<unsigned>(endpoint.kind),
                low(endpoint.packet_bytes), high(endpoint.packet_bytes), endpoint.interval});
    if (speed == Speed::kSuper) add(bytes, {6, kCompanion, endpoint.burst, 0, 0, 0});
  }
  const auto total = static_cast<uint16_t>(bytes.size());
  bytes[2] = low(total);
  bytes[3] = high(total);
  return bytes;
}

/// The binary device object store: link power management and what SuperSpeed is there.
std::vector<uint8_t> Description::capabilities() const {
  std::vector<uint8_t> bytes;
  add(bytes, {5, kCapabilities, 22, 0, 2});
  add(bytes, {7, kCapability, 2, 0, 0, 0, 0});                     // USB 2.0 extension
  add(bytes, {10, kCapability, 3, 0, 0x0E, 0, 1, 0x0A, 0x20, 0});  // full, high and super speed
  return bytes;
}

std::optional<std::vector<uint8_t>> Description::text(uint8_t index) const {
  std::vector<uint8_t> bytes;
  if (index == 0) {
    add(bytes, {4, kString, 0x09, 0x04});  // English (United States)
    return bytes;
  }
  const std::string* words = index == kManufacturer ? &manufacturer
                             : index == kProduct    ? &name
                             : index == kSerial     ? &serial
                                                    : nullptr;
  if (words == nullptr) return std::nullopt;
  constexpr size_t kMostCharacters = 126;
  const auto count = std::min(words->size(), kMostCharacters);
  add(bytes, {static_cast<unsigned>(2 + 2 * count), kString});
  for (const char character : std::string_view(*words).substr(0, count))
    add(bytes, {static_cast<uint8_t>(character), 0});
  return bytes;
}

std::optional<std::vector<uint8_t>> Description::descriptor(Speed speed, uint8_t type,
                                                            uint8_t index) const {
  const bool two_speeds = find(Speed::kHigh) != nullptr && find(Speed::kFull) != nullptr &&
                          (speed == Speed::kHigh || speed == Speed::kFull);
  switch (type) {
    case kDevice:
      return device(speed);
    case kConfiguration:
      if (index != 0) return std::nullopt;
      return configuration(speed, type);
    case kString:
      return text(index);
    case kDeviceQualifier:
      if (!two_speeds) return std::nullopt;
      return qualifier();
    case kOtherSpeed:
      if (!two_speeds || index != 0) return std::nullopt;
      return configuration(speed == Speed::kHigh ? Speed::kFull : Speed::kHigh, type);
    case kCapabilities:
      if (find(Speed::kSuper) == nullptr) return std::nullopt;
      return capabilities();
    default:
      return std::nullopt;
  }
}

}  // namespace limen::usb
