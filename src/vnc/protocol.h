// Numbers of the remote framebuffer protocol (RFC 6143, and the community's "The RFB Protocol").
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

namespace limen::vnc {

using Bytes = std::vector<uint8_t>;

inline uint16_t get16(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}
inline uint32_t get32(std::span<const uint8_t> bytes, size_t at) {
  return uint32_t{get16(bytes, at)} << 16 | get16(bytes, at + 2);
}
inline void put8(Bytes& bytes, unsigned value) {
  bytes.push_back(static_cast<uint8_t>(value & 0xFF));
}
inline void put16(Bytes& bytes, unsigned value) {
  put8(bytes, value >> 8);
  put8(bytes, value);
}
inline void put32(Bytes& bytes, uint32_t value) {
  put16(bytes, value >> 16);
  put16(bytes, value & 0xFFFF);
}

namespace security {
constexpr uint8_t kNone = 1, kVncAuthentication = 2, kVeNCrypt = 19;
// VeNCrypt's own.
constexpr uint32_t kTlsNone = 257, kTlsVnc = 258, kX509None = 260, kX509Vnc = 261;
}  // namespace security

namespace encoding {
constexpr int32_t kRaw = 0, kCopyRect = 1, kRre = 2, kCoRre = 4, kHextile = 5, kZlib = 6,
                  kTight = 7, kZrle = 16;
constexpr int32_t kFirstQuality = -32, kLastQuality = -23;
constexpr int32_t kDesktopSize = -223, kLastRect = -224, kRichCursor = -239, kXCursor = -240;
constexpr int32_t kFirstCompression = -256, kLastCompression = -247;
constexpr int32_t kPointerMotionChange = -257, kExtendedKey = -258, kLedState = -261;
constexpr int32_t kExtendedDesktopSize = -308;
}  // namespace encoding

}  // namespace limen::vnc
