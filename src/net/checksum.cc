#include "net/checksum.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace limen::net {

uint64_t partial_sum(std::span<const std::byte> bytes) {
  // 32-bit words into 64-bit sums: they cannot overflow below 16 GiB, and folding in the end is the
  // same as folding all along (RFC 1071 §2). Four sums, so that the additions overlap.
  uint64_t sums[4] = {};
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= 32; left -= 32, at += 32) {
    uint64_t words[4];
    std::memcpy(words, at, sizeof words);
    for (size_t i = 0; i < 4; ++i) sums[i] += (words[i] & 0xFFFF'FFFF) + (words[i] >> 32);
  }
  uint64_t sum = sums[0] + sums[1] + sums[2] + sums[3];
  for (; left >= 2; left -= 2, at += 2) {
    uint16_t word = 0;
    std::memcpy(&word, at, sizeof word);
    sum += word;
  }
  if (left != 0) sum += static_cast<uint8_t>(*at);  // little-endian: the pair's first byte
  return sum;
}

uint16_t finish_sum(uint64_t sum) {
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

uint16_t load16(std::span<const std::byte> bytes, size_t offset) {
  uint16_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return __builtin_bswap16(value);
}

uint32_t load32(std::span<const std::byte> bytes, size_t offset) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return __builtin_bswap32(value);
}

void store16(std::span<std::byte> bytes, size_t offset, uint16_t value) {
  value = __builtin_bswap16(value);
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

void store32(std::span<std::byte> bytes, size_t offset, uint32_t value) {
  value = __builtin_bswap32(value);
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

namespace {

constexpr size_t kIp4HeaderBytes = 20, kIp6HeaderBytes = 40;

std::optional<PacketLayout> parse_ip4(std::span<const std::byte> frame, size_t at) {
  if (frame.size() < at + kIp4HeaderBytes) return std::nullopt;
  const auto first = static_cast<uint8_t>(frame[at]);
  const size_t header = (first & 0xFu) * 4u;
  const size_t total = load16(frame, at + 2);
  if (first >> 4 != 4 || header < kIp4HeaderBytes || total < header || frame.size() < at + total)
    return std::nullopt;
  PacketLayout layout{.version = 4, .protocol = static_cast<uint8_t>(frame[at + 9]), .ip = at};
  layout.transport = at + header;
  layout.end = at + total;
  layout.fragment = (load16(frame, at + 6) & 0x3FFF) != 0;  // more fragments, or an offset
  return layout;
}

std::optional<PacketLayout> parse_ip6(std::span<const std::byte> frame, size_t at) {
  if (frame.size() < at + kIp6HeaderBytes || static_cast<uint8_t>(frame[at]) >> 4 != 6)
    return std::nullopt;
  const size_t end = at + kIp6HeaderBytes + load16(frame, at + 4);
  if (end > frame.size()) return std::nullopt;
  PacketLayout layout{.version = 6, .protocol = static_cast<uint8_t>(frame[at + 6]), .ip = at};
  layout.end = end;
  layout.transport = at + kIp6HeaderBytes;
  // Extension headers (RFC 8200 §4.1).
  for (;;) {
    constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kDestination = 60;
    const uint8_t next = layout.protocol;
    if (next != kHopByHop && next != kRouting && next != kFragment && next != kDestination)
      return layout;
    if (layout.transport + 8 > end) return std::nullopt;
    const auto length = static_cast<uint8_t>(frame[layout.transport + 1]);
    layout.protocol = static_cast<uint8_t>(frame[layout.transport]);
    if (next == kFragment) layout.fragment = true;
    layout.transport += next == kFragment ? 8 : (length + 1u) * 8;
    if (layout.transport > end) return std::nullopt;
  }
}

}  // namespace

std::optional<PacketLayout> parse_packet(std::span<const std::byte> frame) {
  size_t at = kEthernetHeaderBytes;
  for (unsigned tags = 0;; ++tags, at += 4) {
    if (frame.size() < at || tags > 2) return std::nullopt;
    switch (load16(frame, at - 2)) {
      case kEtherTypeIp4:
        return parse_ip4(frame, at);
      case kEtherTypeIp6:
        return parse_ip6(frame, at);
      case kEtherTypeVlan:
      case kEtherTypeServiceVlan:
        break;
      default:
        return std::nullopt;
    }
  }
}

uint64_t pseudo_header_sum(std::span<const std::byte> frame, const PacketLayout& layout,
                           size_t transport_bytes) {
  const auto addresses =
      layout.version == 4 ? frame.subspan(layout.ip + 12, 8) : frame.subspan(layout.ip + 8, 32);
  std::byte rest[8]{};
  store32(rest, 0, static_cast<uint32_t>(transport_bytes));
  store16(rest, 6, layout.protocol);
  return partial_sum(addresses) + partial_sum(rest);
}

bool complete_checksum(std::span<std::byte> frame, const OffloadHeader& header) {
  const size_t start = header.checksum_start;
  const size_t field = start + header.checksum_offset;
  if (start > frame.size() || field + 2 > frame.size()) return false;
  // The field holds the sum over the pseudo header and is part of what is summed up.
  uint16_t sum = finish_sum(partial_sum(frame.subspan(start)));
  if (sum == 0) sum = 0xFFFF;  // the same number, and UDP's zero means "none" (RFC 768)
  std::memcpy(frame.data() + field, &sum, sizeof sum);
  return true;
}

}  // namespace limen::net
