#include "net/segmentation.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "net/checksum.h"

namespace limen::net {
namespace {

constexpr size_t kTcpHeaderBytes = 20, kUdpHeaderBytes = 8, kMaximumHeaders = 256;
constexpr uint8_t kTcpFin = 0x01, kTcpPush = 0x08, kTcpCwr = 0x80;
constexpr uint16_t kMoreFragments = 0x2000, kDontFragment = 0x4000;

void finish_ip4_header(std::span<std::byte> headers, size_t ip, size_t ip_header_bytes) {
  store16(headers, ip + 10, 0);
  const uint16_t sum = finish_sum(partial_sum(headers.subspan(ip, ip_header_bytes)));
  std::memcpy(headers.data() + ip + 10, &sum, sizeof sum);
}

void emit(std::span<std::byte> headers, std::span<std::byte> payload, const FrameSink& sink) {
  const std::array<iovec, 2> parts = {
      {{headers.data(), headers.size()}, {payload.data(), payload.size()}}};
  sink({.parts = parts, .bytes = headers.size() + payload.size(), .offload = {}});
}

bool segment_tcp(std::span<std::byte> frame, const PacketLayout& layout, size_t segment_bytes,
                 const FrameSink& sink) {
  if (layout.protocol != kProtocolTcp || layout.fragment || segment_bytes == 0 ||
      layout.end - layout.transport < kTcpHeaderBytes)
    return false;
  const size_t tcp = layout.transport;
  const size_t tcp_bytes = (static_cast<uint8_t>(frame[tcp + 12]) >> 4) * 4u;
  const size_t header_bytes = tcp + tcp_bytes;
  if (tcp_bytes < kTcpHeaderBytes || header_bytes > layout.end || header_bytes > kMaximumHeaders)
    return false;
  const auto payload = frame.subspan(header_bytes, layout.end - header_bytes);
  const uint32_t sequence = load32(frame, tcp + 4);
  const uint16_t identification = load16(frame, layout.ip + 4);
  const auto flags = static_cast<uint8_t>(frame[tcp + 13]);

  std::array<std::byte, kMaximumHeaders> storage;
  const auto headers = std::span(storage).first(header_bytes);
  std::memcpy(headers.data(), frame.data(), header_bytes);
  for (size_t offset = 0, index = 0; offset == 0 || offset < payload.size(); ++index) {
    const auto part = payload.subspan(offset, std::min(segment_bytes, payload.size() - offset));
    const bool first = offset == 0;
    offset += std::max<size_t>(part.size(), 1);
    const bool last = offset >= payload.size();
    if (layout.version == 4) {
      store16(headers, layout.ip + 2,
              static_cast<uint16_t>(header_bytes - layout.ip + part.size()));
      store16(headers, layout.ip + 4, static_cast<uint16_t>(identification + index));
      finish_ip4_header(headers, layout.ip, layout.transport - layout.ip);
    } else {
      store16(headers, layout.ip + 4,
              static_cast<uint16_t>(header_bytes - layout.ip - 40 + part.size()));
    }
    store32(headers, tcp + 4, static_cast<uint32_t>(sequence + index * segment_bytes));
    // FIN and PSH belong to the last segment, CWR to the first (RFC 3168 §6.1.2).
    uint8_t its_flags = flags;
    if (!last) its_flags = static_cast<uint8_t>(its_flags & ~(kTcpFin | kTcpPush));
    if (!first) its_flags = static_cast<uint8_t>(its_flags & ~kTcpCwr);
    headers[tcp + 13] = std::byte{its_flags};
    store16(headers, tcp + 16, 0);
    const uint64_t sum = pseudo_header_sum(headers, layout, tcp_bytes + part.size()) +
                         partial_sum(headers.subspan(tcp)) + partial_sum(part);
    const uint16_t checksum = finish_sum(sum);
    std::memcpy(headers.data() + tcp + 16, &checksum, sizeof checksum);
    emit(headers, part, sink);
  }
  return true;
}

}  // namespace

bool fragment_ip4(std::span<std::byte> frame, size_t mtu, const FrameSink& sink) {
  const auto layout = parse_packet(frame);
  if (!layout || layout->version != 4) return false;
  const size_t ip_bytes = layout->transport - layout->ip;
  const uint16_t old = load16(frame, layout->ip + 6);
  if (mtu < ip_bytes + 8 || layout->transport > kMaximumHeaders) return false;
  const size_t step = (mtu - ip_bytes) / 8 * 8;
  const auto payload = frame.subspan(layout->transport, layout->end - layout->transport);

  std::array<std::byte, kMaximumHeaders> storage;
  const auto headers = std::span(storage).first(layout->transport);
  std::memcpy(headers.data(), frame.data(), headers.size());
  for (size_t offset = 0; offset == 0 || offset < payload.size(); offset += step) {
    const auto part = payload.subspan(offset, std::min(step, payload.size() - offset));
    const bool last = offset + step >= payload.size();
    const auto place = static_cast<uint16_t>((old & 0x1FFF) + offset / 8);
    const auto more = static_cast<uint16_t>(last ? old & kMoreFragments : kMoreFragments);
    const auto keep = static_cast<uint16_t>(payload.size() <= step ? old & kDontFragment : 0);
    store16(headers, layout->ip + 6, static_cast<uint16_t>(place | more | keep));
    store16(headers, layout->ip + 2, static_cast<uint16_t>(ip_bytes + part.size()));
    finish_ip4_header(headers, layout->ip, ip_bytes);
    emit(headers, part, sink);
  }
  return true;
}

bool segment_frame(std::span<std::byte> frame, const OffloadHeader& header, const FrameSink& sink) {
  const auto layout = parse_packet(frame);
  if (!layout) return false;
  switch (header.gso_type & ~kGsoEcn) {
    case kGsoTcp4:
      return layout->version == 4 && segment_tcp(frame, *layout, header.segment_bytes, sink);
    case kGsoTcp6:
      return layout->version == 6 && segment_tcp(frame, *layout, header.segment_bytes, sink);
    case kGsoUdp: {
      // One datagram in fragments: its checksum first, over the whole of it.
      if (layout->version != 4 || layout->protocol != kProtocolUdp || header.segment_bytes < 8 ||
          layout->end - layout->transport < kUdpHeaderBytes)
        return false;
      if ((header.flags & kNeedsChecksum) != 0 && !complete_checksum(frame, header)) return false;
      return fragment_ip4(frame, layout->transport - layout->ip + header.segment_bytes, sink);
    }
    default:
      return false;
  }
}

}  // namespace limen::net
