// What the driver sends (SDM 3.3 to 3.5).
#include <algorithm>
#include <cstring>
#include <utility>

#include "net/checksum.h"
#include "nic/e1000/e1000.h"
#include "nic/e1000/e1000_port.h"

namespace limen::nic {

using namespace e1000;

namespace {

/// Descriptors handled before others have a turn.
constexpr unsigned kBurst = 256;
constexpr size_t kTagBytes = 4, kMacs = 12;
constexpr uint8_t kContextType = 0;

uint8_t command_of(const TransmitDescriptor& descriptor) {
  return static_cast<uint8_t>(descriptor.length_command >> 24);
}
bool is_extended(const TransmitDescriptor& descriptor) {
  return (command_of(descriptor) & transmit_command::kExtended) != 0;
}

/// Sums [start, end) up and stores the result; the field's value is part of the sum. An `end` of 0
/// is the packet's.
void put_checksum(std::span<std::byte> packet, size_t start, size_t field, size_t end) {
  if (end == 0 || end > packet.size()) end = packet.size();
  if (start >= end || field + 2 > packet.size()) return;
  const uint16_t sum = net::finish_sum(net::partial_sum(packet.subspan(start, end - start)));
  std::memcpy(packet.data() + field, &sum, sizeof sum);
}

}  // namespace

/// The descriptor at the head of the ring, which stays there.
bool E1000::take_descriptor(TransmitDescriptor& descriptor) {
  Ring ring;
  {
    const std::lock_guard lock(mutex_);
    if ((at(kTctl) & tctl::kEnable) == 0) return false;
    ring = ring_locked(kTdbal);
  }
  if (ring.head == ring.tail || !bus_master()) return false;
  const auto bytes =
      memory_.span({ring.base + uint64_t{ring.head} * kDescriptorBytes}, kDescriptorBytes);
  if (bytes.empty())
    descriptor = {};  // not in RAM: one that does nothing
  else
    std::memcpy(&descriptor, bytes.data(), sizeof descriptor);
  return true;
}

void E1000::transmit() {
  if (!port_->machine_runs()) return;  // peer_ready() comes when it goes on
  uint32_t causes = 0;
  unsigned done = 0;
  for (; done < kBurst; ++done) {
    if (waiting_) {
      if (send_packet() == net::Delivery::kFull) break;
      finish_descriptor(*waiting_);
      causes |= cause::kTransmitted;
      waiting_.reset();
      continue;
    }
    TransmitDescriptor descriptor;
    if (!take_descriptor(descriptor)) break;
    const uint8_t command = command_of(descriptor);
    if (is_extended(descriptor) && (descriptor.length_command >> 20 & 0xF) == kContextType) {
      set_context(descriptor);
    } else {
      add_data(descriptor);
      if ((command & transmit_command::kEndOfPacket) != 0 &&
          send_packet() == net::Delivery::kFull) {
        waiting_ = command;
        break;
      }
    }
    finish_descriptor(command);
    if ((command & (transmit_command::kReportStatus | transmit_command::kReportSent)) != 0)
      causes |= cause::kTransmitted;
  }
  port_->transmitted();
  if (done != 0 && !waiting_) {
    const std::lock_guard lock(mutex_);
    const Ring ring = ring_locked(kTdbal);
    if (ring.head == ring.tail) causes |= cause::kTransmitEmpty;
  }
  if (causes != 0) raise(causes);
  if (done == kBurst) network_.loop().post([this] { transmit(); });
}

void E1000::set_context(const TransmitDescriptor& descriptor) {
  const auto low = static_cast<uint32_t>(descriptor.address);
  const auto high = static_cast<uint32_t>(descriptor.address >> 32);
  const uint8_t command = command_of(descriptor);
  Context context;
  const auto end = [](uint32_t inclusive) -> size_t { return inclusive == 0 ? 0 : inclusive + 1; };
  context.ip_start = low & 0xFF;
  context.ip_field = low >> 8 & 0xFF;
  context.ip_end = end(low >> 16);
  context.transport_start = high & 0xFF;
  context.transport_field = high >> 8 & 0xFF;
  context.transport_end = end(high >> 16);
  context.header_bytes = descriptor.options;
  context.segment_bytes = descriptor.special;
  context.ip4 = (command & transmit_command::kContextIp4) != 0;
  context.tcp = (command & transmit_command::kContextTcp) != 0;
  ((command & transmit_command::kSegment) != 0 ? segment_context_ : context_) = context;
}

void E1000::add_data(const TransmitDescriptor& descriptor) {
  if (!first_) {
    first_ = descriptor;
    packet_.clear();
    vlan_tag_ = 0;
    too_long_ = false;
  }
  if ((command_of(descriptor) & transmit_command::kVlan) != 0) {
    first_->length_command |= uint32_t{transmit_command::kVlan} << 24;
    vlan_tag_ = descriptor.special;
  }
  const size_t length = descriptor.length_command & (is_extended(descriptor) ? 0xF'FFFFu : 0xFFFFu);
  if (length == 0) return;
  if (length > net::kMaximumFrame - std::min(packet_.size(), net::kMaximumFrame)) {
    too_long_ = true;
    return;
  }
  const auto bytes = memory_.span({descriptor.address}, length);
  if (bytes.empty())
    too_long_ = true;  // nothing to send from
  else
    packet_.insert(packet_.end(), bytes.begin(), bytes.end());
}

/// Finishes what `packet_` holds and gives it to the back end. kFull: it can be called again.
net::Delivery E1000::send_packet() {
  const TransmitDescriptor first = first_.value_or(TransmitDescriptor{});
  const uint8_t command = command_of(first);
  const auto dropped = [this] {
    first_.reset();
    packet_.clear();
    return net::Delivery::kTaken;
  };
  if (too_long_ || packet_.size() < net::kEthernetHeaderBytes) return dropped();
  uint32_t vlan_type = 0;
  {
    const std::lock_guard lock(mutex_);
    if ((at(kCtrl) & ctrl::kVlanMode) != 0 && (command & transmit_command::kVlan) != 0)
      vlan_type = at(kVet);
  }

  net::OffloadHeader offload;
  const std::span<std::byte> packet(packet_);
  const size_t tag = vlan_type != 0 ? kTagBytes : 0;
  if (!is_extended(first)) {
    if ((command & transmit_command::kInsertChecksum) != 0)
      put_checksum(packet, first.options, first.length_command >> 16 & 0xFF, 0);
  } else if ((command & transmit_command::kSegment) != 0) {
    const Context& context = segment_context_;
    // The driver leaves the lengths in the headers to the card, and so the sum over them: they are
    // filled in for the packet as a whole, and again for each segment by whoever cuts it.
    const size_t ip = context.ip_start;
    if (!context.tcp || context.segment_bytes == 0 || context.header_bytes > packet.size() ||
        ip + 40 > packet.size() || packet.size() - ip > 65535 + (context.ip4 ? 0u : 40u) ||
        context.transport_field + 2u > packet.size())
      return dropped();
    if (context.ip4)
      net::store16(packet, ip + 2, static_cast<uint16_t>(packet.size() - ip));
    else
      net::store16(packet, ip + 4, static_cast<uint16_t>(packet.size() - ip - 40));
    const auto whole = net::parse_packet(packet);
    if (!whole || whole->ip != ip || whole->transport != context.transport_start ||
        whole->end != packet.size())
      return dropped();
    if (context.ip4) {
      net::store16(packet, ip + 10, 0);
      put_checksum(packet, ip, ip + 10, whole->transport);
    }
    const auto sum = static_cast<uint16_t>(
        ~net::finish_sum(net::pseudo_header_sum(packet, *whole, packet.size() - whole->transport)));
    std::memcpy(packet.data() + context.transport_field, &sum, sizeof sum);
    offload.flags = net::kNeedsChecksum;
    offload.gso_type = context.ip4 ? net::kGsoTcp4 : net::kGsoTcp6;
    offload.header_bytes = static_cast<uint16_t>(context.header_bytes + tag);
    offload.segment_bytes = static_cast<uint16_t>(context.segment_bytes);
    offload.checksum_start = static_cast<uint16_t>(whole->transport + tag);
    offload.checksum_offset = 16;
    // One that fits a segment needs no cutting.
    if (packet.size() - context.header_bytes <= context.segment_bytes)
      offload.gso_type = net::kGsoNone;
  } else {
    if ((first.options & kInsertTransportChecksum) != 0)
      put_checksum(packet, context_.transport_start, context_.transport_field,
                   context_.transport_end);
    if ((first.options & kInsertIpChecksum) != 0)
      put_checksum(packet, context_.ip_start, context_.ip_field, context_.ip_end);
    // Done: the second time it is called for a packet must not do it again.
    first_->options = 0;
  }
  if (!is_extended(first))
    first_->length_command &= ~(uint32_t{transmit_command::kInsertChecksum} << 24);

  std::array<std::byte, kTagBytes> inserted{};
  std::array<iovec, 3> parts = {{{packet.data(), packet.size()}, {}, {}}};
  size_t count = 1;
  if (tag != 0) {
    net::store16(inserted, 0, static_cast<uint16_t>(vlan_type));
    net::store16(inserted, 2, vlan_tag_);
    parts = {{{packet.data(), kMacs},
              {inserted.data(), inserted.size()},
              {packet.data() + kMacs, packet.size() - kMacs}}};
    count = 3;
  }
  const net::Frame frame{
      .parts = std::span(parts).first(count), .bytes = packet.size() + tag, .offload = offload};
  const bool multicast = (static_cast<uint8_t>(packet[0]) & 1) != 0;
  if (port_->transmit(frame) == net::Delivery::kFull) return net::Delivery::kFull;
  {
    const std::lock_guard lock(mutex_);
    count_locked(kGptc, kGotcl, frame.bytes);
    count_locked(kTpt, kTotl, frame.bytes);
    if (multicast) ++at(static_cast<uint8_t>(packet[1]) == 0xFF ? kBptc : kMptc);
    if (offload.gso_type != 0) ++at(kTsctc);
  }
  return dropped();
}

/// Writes a descriptor back where the driver wants that, and goes on to the next.
void E1000::finish_descriptor(uint8_t command) {
  const std::lock_guard lock(mutex_);
  const Ring ring = ring_locked(kTdbal);
  if (ring.entries == 0) return;
  if ((command & (transmit_command::kReportStatus | transmit_command::kReportSent)) != 0) {
    const uint64_t place =
        ring.base + uint64_t{ring.head} * kDescriptorBytes + offsetof(TransmitDescriptor, status);
    if (const auto bytes = memory_.span({place}, 1); !bytes.empty()) {
      std::atomic_ref(reinterpret_cast<uint8_t&>(bytes[0]))
          .fetch_or(kDescriptorDone, std::memory_order_release);
      memory_.note_written({place}, 1);
    }
  }
  at(kTdh) = (ring.head + 1) % ring.entries;
}

}  // namespace limen::nic
