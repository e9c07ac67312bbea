// Frames for tests, and a port that records what it gets.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "net/checksum.h"
#include "net/port.h"

namespace limen::net {

using Bytes = std::vector<std::byte>;

inline Bytes counted(size_t count) {
  Bytes bytes(count);
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i % 251);
  return bytes;
}

/// A TCP or UDP packet over IPv4 or IPv6 with `payload`; its transport checksum is the sum over the
/// pseudo header, as a driver leaves it.
inline Bytes packet(unsigned version, uint8_t protocol, const Bytes& payload, bool vlan = false,
                    uint8_t tcp_flags = 0x18) {
  const size_t ethernet = vlan ? 18 : 14, ip = version == 4 ? 20 : 40;
  const size_t transport = protocol == kProtocolTcp ? 20 : 8;
  Bytes frame(ethernet + ip + transport);
  for (size_t i = 0; i < 12; ++i) frame[i] = static_cast<std::byte>(2 + i);
  if (vlan) store32(frame, 12, kEtherTypeVlan << 16 | 5);
  store16(frame, ethernet - 2, version == 4 ? kEtherTypeIp4 : kEtherTypeIp6);
  const size_t length = transport + payload.size();
  if (version == 4) {
    frame[ethernet] = std::byte{0x45};
    store16(frame, ethernet + 2, static_cast<uint16_t>(ip + length));
    store16(frame, ethernet + 4, 0xFFFE);
    frame[ethernet + 8] = std::byte{64};
    frame[ethernet + 9] = std::byte{protocol};
    store32(frame, ethernet + 12, 0x0A00'0001);
    store32(frame, ethernet + 16, 0x0A00'0002);
    const auto sum = finish_sum(partial_sum(std::span(frame).subspan(ethernet, ip)));
    std::memcpy(&frame[ethernet + 10], &sum, 2);
  } else {
    frame[ethernet] = std::byte{0x60};
    store16(frame, ethernet + 4, static_cast<uint16_t>(length));
    frame[ethernet + 6] = std::byte{protocol};
    for (size_t i = 0; i < 32; ++i) frame[ethernet + 8 + i] = static_cast<std::byte>(i * 7);
  }
  const size_t at = ethernet + ip;
  store16(frame, at, 1000);
  store16(frame, at + 2, 80);
  if (protocol == kProtocolTcp) {
    store32(frame, at + 4, 0xFFFF'FF00);  // wraps in the middle of a large segment
    frame[at + 12] = std::byte{0x50};
    frame[at + 13] = std::byte{tcp_flags};
  } else {
    store16(frame, at + 4, static_cast<uint16_t>(length));
  }
  frame.insert(frame.end(), payload.begin(), payload.end());
  const auto layout = parse_packet(frame);
  const auto sum = static_cast<uint16_t>(~finish_sum(pseudo_header_sum(frame, *layout, length)));
  std::memcpy(&frame[at + (protocol == kProtocolTcp ? 16 : 6)], &sum, 2);
  return frame;
}

/// What a driver says of such a packet.
inline OffloadHeader checksum_header(const Bytes& frame) {
  const auto layout = parse_packet(frame);
  return {.flags = kNeedsChecksum,
          .checksum_start = static_cast<uint16_t>(layout->transport),
          .checksum_offset = static_cast<uint16_t>(layout->protocol == kProtocolTcp ? 16 : 6)};
}

/// An independent look: RFC 1071's sum, two bytes at a time in network order.
inline uint16_t slow_sum(std::span<const std::byte> bytes, uint32_t sum = 0) {
  for (size_t i = 0; i < bytes.size(); ++i)
    sum += static_cast<uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

/// Whether a frame's IP and transport checksums are right.
inline bool checksums_right(std::span<const std::byte> frame) {
  const auto layout = parse_packet(frame);
  if (!layout) return false;
  if (layout->version == 4 &&
      slow_sum(frame.subspan(layout->ip, layout->transport - layout->ip)) != 0xFFFF)
    return false;
  const size_t length = layout->end - layout->transport;
  uint32_t sum = static_cast<uint32_t>(length) + layout->protocol;
  sum += layout->version == 4 ? slow_sum(frame.subspan(layout->ip + 12, 8))
                              : slow_sum(frame.subspan(layout->ip + 8, 32));
  return slow_sum(frame.subspan(layout->transport, length), sum) == 0xFFFF;
}

class RecordingPort final : public Port {
 public:
  std::string describe() const override { return "recording"; }
  Delivery give(const Bytes& bytes, const OffloadHeader& offload = {}) {
    Bytes copy = bytes;
    // In two parts, as frames seldom lie in one.
    const size_t cut = copy.size() / 3;
    const iovec parts[2] = {{copy.data(), cut}, {copy.data() + cut, copy.size() - cut}};
    return send({.parts = parts, .bytes = copy.size(), .offload = offload});
  }
  void give_or_keep(Bytes bytes, const OffloadHeader& offload = {}) {
    const iovec part{bytes.data(), bytes.size()};
    send_or_keep({.parts = {&part, 1}, .bytes = bytes.size(), .offload = offload});
  }
  void take_again() {
    full = SIZE_MAX;
    ready();
  }

  Delivery receive(const Frame& frame, unsigned) override {
    if (frames.size() >= full) return Delivery::kFull;
    Bytes storage;
    const auto whole = flatten(frame, storage);
    frames.emplace_back(whole.begin(), whole.end());
    headers.push_back(frame.offload);
    return Delivery::kTaken;
  }
  Offloads offloads() const override { return accepted; }
  void peer_ready() override { ++told_ready; }
  void peer_changed() override { ++told_changed; }

  std::vector<Bytes> frames;
  std::vector<OffloadHeader> headers;
  Offloads accepted;
  size_t full = SIZE_MAX;  ///< Frames that it takes.
  unsigned told_ready = 0, told_changed = 0;
};

}  // namespace limen::net
