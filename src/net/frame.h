// A frame on the way between a network card and what stands behind it.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace limen::net {

inline constexpr size_t kEthernetHeaderBytes = 14;
inline constexpr size_t kMacBytes = 6;
/// Longest frame: an IP packet of 64 KiB, an Ethernet header and two VLAN tags.
inline constexpr size_t kMaximumFrame = 65535 + kEthernetHeaderBytes + 8;

/// What is left to do with a frame: struct virtio_net_hdr without num_buffers (virtio 1.2 §5.1.6),
/// which a tap device takes as it is (IFF_VNET_HDR).
struct OffloadHeader {
  uint8_t flags = 0;
  uint8_t gso_type = 0;
  uint16_t header_bytes = 0;     ///< Of all headers in front of what is to be cut; a hint.
  uint16_t segment_bytes = 0;    ///< Payload of one segment.
  uint16_t checksum_start = 0;   ///< From here to the end is summed up,
  uint16_t checksum_offset = 0;  ///< and the sum stored this far behind checksum_start.
};
static_assert(sizeof(OffloadHeader) == 10);

inline constexpr uint8_t kNeedsChecksum = 1, kDataValid = 2;  // OffloadHeader::flags
/// OffloadHeader::gso_type; kGsoEcn comes on top of a TCP one.
enum GsoType : uint8_t { kGsoNone = 0, kGsoTcp4 = 1, kGsoUdp = 3, kGsoTcp6 = 4, kGsoEcn = 0x80 };

/// What an end of a cable takes unfinished.
struct Offloads {
  bool checksum = false;  ///< kNeedsChecksum.
  bool tcp4 = false;
  bool tcp6 = false;
  bool ecn = false;
  bool udp = false;
  bool operator==(const Offloads&) const = default;
};

/// Whether `accepted` covers what `header` leaves undone.
[[nodiscard]] inline bool accepts(const Offloads& accepted, const OffloadHeader& header) {
  if ((header.flags & kNeedsChecksum) != 0 && !accepted.checksum) return false;
  if ((header.gso_type & kGsoEcn) != 0 && !accepted.ecn) return false;
  switch (header.gso_type & ~kGsoEcn) {
    case kGsoNone:
      return true;
    case kGsoTcp4:
      return accepted.tcp4;
    case kGsoTcp6:
      return accepted.tcp6;
    case kGsoUdp:
      return accepted.udp;
    default:
      return false;
  }
}

/// A frame of somebody else's memory, valid during the call it is given to. A guest may change its
/// memory meanwhile: look at bytes once, or copy them first.
struct Frame {
  std::span<const iovec> parts = {};
  size_t bytes = 0;
  OffloadHeader offload = {};
};

/// Copies the first bytes of a frame; returns how many there were.
size_t copy_out(const Frame& frame, std::span<std::byte> into);
/// The whole frame in `storage`, which grows as needed.
std::span<std::byte> flatten(const Frame& frame, std::vector<std::byte>& storage);

}  // namespace limen::net
