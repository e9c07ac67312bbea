// The Internet checksum (RFC 1071), and the headers that carry it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "net/frame.h"

namespace limen::net {

/// Sum of 16-bit words in the order in which they lie in memory, not yet folded; an odd last byte
/// counts as the first of a pair. Sums of parts at even offsets add up.
[[nodiscard]] uint64_t partial_sum(std::span<const std::byte> bytes);
/// Folded to 16 bits and complemented: what is stored in a header, in memory order.
[[nodiscard]] uint16_t finish_sum(uint64_t sum);

// Fields of headers, which are in network order and not aligned.
[[nodiscard]] uint16_t load16(std::span<const std::byte> bytes, size_t offset);
[[nodiscard]] uint32_t load32(std::span<const std::byte> bytes, size_t offset);
void store16(std::span<std::byte> bytes, size_t offset, uint16_t value);
void store32(std::span<std::byte> bytes, size_t offset, uint32_t value);

inline constexpr uint8_t kProtocolTcp = 6, kProtocolUdp = 17;
inline constexpr uint16_t kEtherTypeIp4 = 0x0800, kEtherTypeIp6 = 0x86DD, kEtherTypeVlan = 0x8100,
                          kEtherTypeServiceVlan = 0x88A8;

/// Where the headers of an IP packet in a frame lie; every offset is inside it.
struct PacketLayout {
  uint8_t version = 0;   ///< 4 or 6.
  uint8_t protocol = 0;  ///< kProtocolTcp, ...; IPv6: behind the extension headers.
  size_t ip = 0;         ///< Offset of the IP header.
  size_t transport = 0;  ///< Offset behind it.
  size_t end = 0;        ///< Offset behind the packet; padding may follow.
  bool fragment = false;
};
/// Nothing for a frame that holds no sound IP packet.
[[nodiscard]] std::optional<PacketLayout> parse_packet(std::span<const std::byte> frame);

/// The sum over the pseudo header (RFC 793 §3.1, RFC 8200 §8.1) with `transport_bytes` of payload.
[[nodiscard]] uint64_t pseudo_header_sum(std::span<const std::byte> frame,
                                         const PacketLayout& layout, size_t transport_bytes);

/// Stores the checksum that `header` asks for. False: it lies outside the frame.
bool complete_checksum(std::span<std::byte> frame, const OffloadHeader& header);

}  // namespace limen::net
