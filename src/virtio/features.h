// Constants of the virtio 1.2 specification that more than one file needs.
#pragma once

#include <cstdint>

namespace limen::virtio {

/// Device types (virtio 1.2 §5).
enum class DeviceType : uint16_t {
  kNet = 1,
  kBlock = 2,
  kConsole = 3,
  kEntropy = 4,
  kBalloon = 5,
  kScsi = 8,
  kGpu = 16,
};

/// Feature bits that belong to the transport and the rings (virtio 1.2 §6).
namespace feature {
inline constexpr uint64_t kIndirectDescriptors = uint64_t{1} << 28;
inline constexpr uint64_t kEventIndex = uint64_t{1} << 29;
inline constexpr uint64_t kVersion1 = uint64_t{1} << 32;
inline constexpr uint64_t kRingPacked = uint64_t{1} << 34;
}  // namespace feature

/// Bits of the device status field (virtio 1.2 §2.1).
namespace status {
inline constexpr uint8_t kAcknowledge = 1;
inline constexpr uint8_t kDriver = 2;
inline constexpr uint8_t kDriverOk = 4;
inline constexpr uint8_t kFeaturesOk = 8;
inline constexpr uint8_t kNeedsReset = 64;
inline constexpr uint8_t kFailed = 128;
}  // namespace status

}  // namespace limen::virtio
