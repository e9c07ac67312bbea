// What the driver receives (SDM 3.2).
#include <algorithm>
#include <array>
#include <cstring>

#include "net/checksum.h"
#include "nic/e1000/e1000.h"
#include "nic/e1000/e1000_port.h"

namespace limen::nic {

using namespace e1000;

namespace {

constexpr size_t kLeastFrame = 60, kCrcBytes = 4, kTagBytes = 4, kMacs = 12;
constexpr size_t kLongestFrame = 1522 - kCrcBytes, kLongestLongFrame = 16384 - kCrcBytes;
constexpr unsigned kAddresses = 16;

}  // namespace

/// RCTL's BSIZE and BSEX (SDM 13.4.22).
uint32_t E1000::buffer_bytes_locked() {
  const uint32_t control = at(kRctl);
  const uint32_t size = 2048u >> (control >> 16 & 3);
  return (control & rctl::kSizeExtension) != 0 && size < 2048 ? size * 16 : size;
}

bool E1000::passes_locked(std::span<const std::byte> frame, bool& exact) {
  const uint32_t control = at(kRctl);
  exact = true;
  if ((control & rctl::kVlanFilter) != 0 && net::load16(frame, kMacs) == at(kVet) &&
      frame.size() >= kMacs + kTagBytes) {
    const unsigned tag = net::load16(frame, kMacs + 2) & 0xFFF;
    if ((at(kVfta + tag / 32 * 4) >> tag % 32 & 1) == 0) return false;
  }
  const bool multicast = (static_cast<uint8_t>(frame[0]) & 1) != 0;
  if (!multicast && (control & rctl::kUnicastAll) != 0) return true;
  if (multicast && (control & rctl::kMulticastAll) != 0) return true;
  if ((control & rctl::kBroadcast) != 0 &&
      std::ranges::all_of(frame.first(6), [](std::byte byte) { return byte == std::byte{0xFF}; }))
    return true;
  for (unsigned i = 0; i < kAddresses; ++i) {
    const uint32_t high = at(kRal + 8 * i + 4);
    if ((high >> 31) == 0) continue;
    std::array<uint32_t, 2> address = {at(kRal + 8 * i), high & 0xFFFF};
    if (std::memcmp(address.data(), frame.data(), net::kMacBytes) == 0) return true;
  }
  if (!multicast) return false;
  // 12 bits of the address's end; which ones RCTL.MO says (SDM 13.5.1).
  constexpr std::array<unsigned, 4> kShifts = {4, 3, 2, 0};
  const auto last = static_cast<unsigned>(frame[4]) | static_cast<unsigned>(frame[5]) << 8;
  const unsigned hash = last >> kShifts[control >> 12 & 3] & 0xFFF;
  exact = false;
  return (at(kMta + (hash >> 5 & 0x7F) * 4) >> (hash & 0x1F) & 1) != 0;
}

net::Delivery E1000::receive(const net::Frame& frame) {
  auto bytes = net::flatten(frame, received_);
  if (bytes.size() < net::kEthernetHeaderBytes) return net::Delivery::kTaken;
  const bool checked = (frame.offload.flags & (net::kNeedsChecksum | net::kDataValid)) != 0;
  if ((frame.offload.flags & net::kNeedsChecksum) != 0 &&
      !net::complete_checksum(bytes, frame.offload))
    return net::Delivery::kTaken;
  {
    const std::lock_guard lock(mutex_);
    const uint32_t control = at(kRctl);
    bool exact = false;
    if ((control & rctl::kEnable) == 0 || !link_up_ || !bus_master() ||
        bytes.size() > ((control & rctl::kLongPackets) != 0 ? kLongestLongFrame : kLongestFrame) ||
        !passes_locked(bytes, exact))
      return net::Delivery::kTaken;
    const bool tagged = (at(kCtrl) & ctrl::kVlanMode) != 0 && bytes.size() >= kMacs + kTagBytes &&
                        net::load16(bytes, kMacs) == at(kVet);
    const uint16_t tag = tagged ? net::load16(bytes, kMacs + 2) : uint16_t{0};
    const bool multicast = (static_cast<uint8_t>(bytes[0]) & 1) != 0;
    const bool broadcast = multicast && static_cast<uint8_t>(bytes[1]) == 0xFF;
    if (tagged) {
      std::memmove(bytes.data() + kTagBytes, bytes.data(), kMacs);
      bytes = bytes.subspan(kTagBytes);
    }
    // Short frames are filled up, and the checksum of the wire comes behind.
    const size_t padded = std::max(bytes.size(), kLeastFrame);
    const size_t total = padded + ((control & rctl::kStripCrc) != 0 ? 0 : kCrcBytes);
    Ring ring = ring_locked(kRdbal);
    const uint32_t buffer = buffer_bytes_locked();
    const uint32_t free =
        ring.entries == 0 ? 0 : (ring.tail + ring.entries - ring.head) % ring.entries;
    if (uint64_t{free} * buffer < total) {
      starved_ = true;
      return net::Delivery::kFull;
    }
    static constexpr std::array<std::byte, kLeastFrame + kCrcBytes> kZeroes{};
    for (size_t done = 0; done < total;) {
      const uint64_t place = ring.base + uint64_t{ring.head} * kDescriptorBytes;
      const size_t length = std::min<size_t>(buffer, total - done);
      const auto slot = memory_.span({place}, kDescriptorBytes);
      if (!slot.empty()) {
        ReceiveDescriptor descriptor;
        std::memcpy(&descriptor, slot.data(), sizeof descriptor);
        if (const auto room = memory_.span({descriptor.address}, length); !room.empty()) {
          const size_t data = done < bytes.size() ? std::min(length, bytes.size() - done) : 0;
          if (data != 0) std::memcpy(room.data(), bytes.data() + done, data);
          std::memcpy(room.data() + data, kZeroes.data(), length - data);
          memory_.note_written({descriptor.address}, length);
        }
        const bool last = done + length == total;
        descriptor.length = static_cast<uint16_t>(length);
        descriptor.checksum = 0;
        descriptor.errors = 0;
        descriptor.special = last ? tag : uint16_t{0};
        descriptor.status = receive_status::kDone;
        if (last) {
          descriptor.status |= receive_status::kEndOfPacket;
          descriptor.status |= checked ? receive_status::kTcpChecked | receive_status::kIpChecked
                                       : receive_status::kIgnoreChecksum;
          if (tagged) descriptor.status |= receive_status::kVlan;
          if (!exact) descriptor.status |= receive_status::kInexact;
        }
        // The half that the driver polls goes out at once, behind the data.
        uint64_t half = 0;
        std::memcpy(&half, reinterpret_cast<const std::byte*>(&descriptor) + 8, sizeof half);
        std::atomic_ref(*reinterpret_cast<uint64_t*>(slot.data() + 8))
            .store(half, std::memory_order_release);
        memory_.note_written({place}, kDescriptorBytes);
      }
      done += length;
      ring.head = (ring.head + 1) % ring.entries;
    }
    at(kRdh) = ring.head;
    count_locked(kGprc, kGorcl, total);
    count_locked(kTpr, kTorl, total);
    if (multicast) ++at(broadcast ? kBprc : kMprc);
    uint32_t causes = cause::kReceived;
    // Few descriptors are left: RCTL.RDMTS says how few.
    const uint32_t left = (ring.tail + ring.entries - ring.head) % ring.entries;
    if (left <= ring.entries >> (1 + (control >> 8 & 3))) causes |= cause::kReceiveLow;
    raise_locked(causes);
  }
  deliver_intx();
  return net::Delivery::kTaken;
}

}  // namespace limen::nic
