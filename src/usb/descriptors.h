// What a USB device tells of itself, and the descriptors made of it (USB 2.0 §9.6, USB 3.2 §9.6).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace limen::usb {

/// By the default protocol speed IDs of xHCI 1.2 §7.2.2.1.1.
enum class Speed : uint8_t { kFull = 1, kLow = 2, kHigh = 3, kSuper = 4 };

/// "12", "1.5", "480", "5000": Mb/s.
[[nodiscard]] std::string_view megabits(Speed speed);

inline constexpr uint8_t kIn = 0x80;  ///< In an endpoint's address: towards the host.

struct EndpointDescription {
  uint8_t address = 0;
  enum class Kind : uint8_t { kBulk = 2, kInterrupt = 3 } kind = Kind::kBulk;
  uint16_t packet_bytes = 0;
  uint8_t interval = 0;
  uint8_t burst = 0;  ///< SuperSpeed: packets at once, less one.
};

/// The one interface of a device, at one speed.
struct Interface {
  uint8_t device_class = 0, subclass = 0, protocol = 0;
  std::vector<uint8_t> class_descriptor = {};  ///< Between those of interface and endpoints.
  std::vector<EndpointDescription> endpoints = {};
};

struct Description {
  uint16_t vendor = 0, product = 0;
  std::string manufacturer = "QEMU";
  std::string name = {};  ///< The product's.
  std::string serial = {};
  uint8_t power = 0;  ///< In 2 mA.
  bool wakes = false;
  std::vector<std::pair<Speed, Interface>> speeds = {};

  /// Null: it does not run at that speed.
  [[nodiscard]] const Interface* find(Speed speed) const;

  /// The reply to GET_DESCRIPTOR for `type` and `index`; nothing: there is no such descriptor.
  [[nodiscard]] std::optional<std::vector<uint8_t>> descriptor(Speed speed, uint8_t type,
                                                               uint8_t index) const;

 private:
  [[nodiscard]] std::vector<uint8_t> device(Speed speed) const;
  [[nodiscard]] std::vector<uint8_t> qualifier() const;
  [[nodiscard]] std::vector<uint8_t> configuration(Speed speed, uint8_t type) const;
  [[nodiscard]] std::vector<uint8_t> capabilities() const;
  [[nodiscard]] std::optional<std::vector<uint8_t>> text(uint8_t index) const;
};

}  // namespace limen::usb
